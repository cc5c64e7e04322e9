package winrm

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"time"
)

// drainTime is how long a command that takes no input is asked for output.
const drainTime = time.Second

// piece is a part of standard input that fits into one envelope.
type piece struct {
	data []byte
	last bool
}

// errInputClosed says that the command takes no more input. It may well have
// ended in good order, so what it answers decides.
var errInputClosed = errors.New("the command takes no more input")

// feed sends standard input in pieces, the last one marked as the end. It says
// whether the command has ended meanwhile.
func (c *Client) feed(ctx context.Context, s *shell, id string, stdin io.Reader, out *output) (ended bool, err error) {
	if stdin == nil {
		return false, nil
	}
	size, err := c.pieceSize(s, id)
	if err != nil {
		return false, err
	}
	reader := bufio.NewReader(stdin)
	for buffer := make([]byte, size); ; {
		p, err := nextPiece(reader, buffer)
		if err != nil {
			return false, fmt.Errorf("read standard input: %w", err)
		}
		ended, err := c.feedPiece(ctx, s, id, p, out)
		if errors.Is(err, errInputClosed) {
			return false, nil
		}
		if err != nil || ended || p.last {
			return ended, err
		}
	}
}

// pieceSize is what fits beside the rest of the envelope: base64 makes four
// bytes of three.
func (c *Client) pieceSize(s *shell, id string) (int, error) {
	skeleton, err := c.marshal(sendMessage(s, id, piece{last: true}))
	if err != nil {
		return 0, err
	}
	return (maxEnvelope - len(skeleton)) / 4 * 3, nil
}

func nextPiece(reader *bufio.Reader, buffer []byte) (piece, error) {
	n, err := io.ReadFull(reader, buffer)
	switch {
	case err == nil:
		_, ahead := reader.Peek(1)
		return piece{data: buffer, last: errors.Is(ahead, io.EOF)}, nil
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return piece{data: buffer[:n], last: true}, nil
	default:
		return piece{}, err
	}
}

func sendMessage(s *shell, id string, p piece) message {
	content := stream{Name: "stdin", ID: id, Content: base64.StdEncoding.AppendEncode(nil, p.data)}
	if p.last {
		content.End = "true"
	}
	return message{action: nsShell + "/Send", resource: resourceCmd, selectors: s.selector(), body: sendBody{Stream: content}}
}

// feedPiece sends one piece. A command that is stuck because nobody fetches its
// output takes no input (ERROR_BUSY), so its output is fetched in between. A
// time-out says that the piece was taken and is not consumed yet.
func (c *Client) feedPiece(ctx context.Context, s *shell, id string, p piece, out *output) (ended bool, err error) {
	for {
		_, err := c.send(ctx, "send input", sendMessage(s, id, p))
		var fault *Fault
		switch {
		case err == nil:
			return false, nil
		case !errors.As(err, &fault):
			return false, err
		case fault.Code == codeOperationTimeout:
			return false, nil
		case fault.Code != codeBusy:
			return false, errInputClosed
		}
		if ended, err := c.receive(ctx, s, id, drainTime, out); err != nil || ended {
			return ended, err
		}
	}
}
