package ssh

import "sync"

// tap shows a stream to whom Run serves, and keeps its ends. A stream can
// outlive Run: what comes then is kept from the tap.
type tap struct {
	*capture
	show func([]byte)

	mu   sync.Mutex
	shut bool
}

func newTap(limit int, show func([]byte)) *tap {
	return &tap{capture: newCapture(limit), show: show}
}

func (t *tap) Write(p []byte) (int, error) {
	if t.show != nil {
		t.offer(p)
	}
	return t.capture.Write(p)
}

func (t *tap) offer(p []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.shut {
		t.show(p)
	}
}

// close returns when no call is running and none will begin.
func (t *tap) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.shut = true
}
