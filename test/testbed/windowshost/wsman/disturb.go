package wsman

import (
	"bytes"
	"net/http"
	"time"
)

// before does what an injection does ahead of the request; false if that is the end of it.
func (s *Server) before(w http.ResponseWriter, r *http.Request, c *connection, in Injection, request *envelope) bool {
	switch in.Trouble {
	case DropBefore:
		panic(http.ErrAbortHandler)
	case Fail:
		fault := &Fault{Code: in.Code, Role: receiver, Subcode: "w:InternalError", Message: "injected"}
		s.answer(w, c, http.StatusInternalServerError, fault.envelope(request.Header.MessageID, s.options.Machine))
		return false
	case Hang:
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	case Delay:
		wait(r, in.Pause)
	case TooLarge:
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return false
	case Unauthorized:
		c.forget()
		s.refuse(w)
		return false
	case Nonsense:
		s.answer(w, c, http.StatusOK, []byte("<html><body>It works!</body></html"))
		return false
	case Flood:
		if received := request.content("Receive"); received != nil {
			s.answer(w, c, http.StatusOK, flood(request, received))
			return false
		}
	}
	return true
}

// wait pauses, but not for a client that has gone.
func wait(r *http.Request, pause time.Duration) {
	select {
	case <-time.After(pause):
	case <-r.Context().Done():
	}
}

// disturb does what an injection does to the answer.
func disturb(w http.ResponseWriter, c *connection, in Injection) http.ResponseWriter {
	switch in.Trouble {
	case DropAfter:
		panic(http.ErrAbortHandler)
	case Clear:
		c.sealed = false
	case Forge, DropWithin, Dribble, Slow:
		return &disturbed{ResponseWriter: w, in: in}
	}
	return w
}

// disturbed writes an answer in another way than it is given.
type disturbed struct {
	http.ResponseWriter
	in Injection
}

func (d *disturbed) Write(content []byte) (int, error) {
	switch d.in.Trouble {
	case Forge:
		forged := bytes.Clone(content)
		forged[len(forged)*2/3] ^= 1
		return d.ResponseWriter.Write(forged)
	case DropWithin:
		_ = d.chunk(content[:len(content)/2]) // the connection ends here anyway
		panic(http.ErrAbortHandler)
	case Dribble:
		return len(content), d.chunks(content, 1)
	}
	return len(content), d.chunks(content, 1+len(content)/8)
}

// chunks sends the content in chunks of a size, with pauses between if the injection has any.
func (d *disturbed) chunks(content []byte, size int) error {
	for len(content) > 0 {
		n := min(size, len(content))
		if err := d.chunk(content[:n]); err != nil {
			return err
		}
		content = content[n:]
		time.Sleep(d.in.Pause)
	}
	return nil
}

func (d *disturbed) chunk(content []byte) error {
	if _, err := d.ResponseWriter.Write(content); err != nil {
		return err
	}
	return http.NewResponseController(d.ResponseWriter).Flush()
}
