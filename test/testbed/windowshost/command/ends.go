package command

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
)

// bothEnds is the answer for the ends of a file.
type bothEnds struct {
	OK    bool   `json:"ok"`
	Head  []byte `json:"head,omitempty"`
	Tail  []byte `json:"tail,omitempty"`
	Error string `json:"error,omitempty"`
}

func (s *Shell) ends(stdin io.Reader, stdout io.Writer) uint32 {
	line, _ := bufio.NewReader(stdin).ReadString('\n') // what cannot be read is no JSON either
	var asked struct {
		Path string `json:"path"`
		Each int64  `json:"each"`
	}
	if err := json.Unmarshal([]byte(line), &asked); err != nil {
		return answer(stdout, bothEnds{Error: "read a line: " + err.Error()}, 0)
	}
	head, tail, err := s.readEnds(asked.Path, asked.Each)
	if err != nil {
		return answer(stdout, bothEnds{Error: err.Error()}, 0)
	}
	return answer(stdout, bothEnds{OK: true, Head: head, Tail: tail}, 0)
}

func (s *Shell) readEnds(windows string, each int64) (head, tail []byte, err error) {
	path, err := s.Drive.Path(windows)
	if err != nil {
		return nil, nil, err
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close() //nolint:errcheck // only read
	info, err := file.Stat()
	if err != nil {
		return nil, nil, err
	}
	n := min(each, info.Size())
	head, err = io.ReadAll(io.NewSectionReader(file, 0, n))
	if err != nil {
		return nil, nil, err
	}
	tail, err = io.ReadAll(io.NewSectionReader(file, info.Size()-n, n))
	return head, tail, err
}
