package fleet_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/isthmus-dev/isthmus/internal/fleet"
	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport"
)

// content that is delivered, and how often it was opened.
type content struct {
	machine.Blob
	opened *atomic.Int32
}

func contentOf(text string) content {
	sum := sha256.Sum256([]byte(text))
	c := content{opened: &atomic.Int32{}}
	c.Blob = machine.Blob{SHA256: hex.EncodeToString(sum[:]), Size: int64(len(text)), Open: func(context.Context) (io.ReadCloser, error) {
		c.opened.Add(1)
		return io.NopCloser(bytes.NewReader([]byte(text))), nil
	}}
	return c
}

func delivery(id string, contents ...content) machine.Job {
	job := machine.Job{ID: id, Timeout: time.Minute}
	for i, c := range contents {
		job.Blobs = append(job.Blobs, c.Blob)
		job.Steps = append(job.Steps, machine.PlaceFile{Path: "/opt/" + id + string(rune('a'+i)), SHA256: c.SHA256, Size: c.Size})
	}
	return job
}

func TestContentIsStagedBeforeItsJob(t *testing.T) {
	h := working(t)
	one, two := contentOf("one"), contentOf("two")
	h.Submit(hostKey, orders, delivery("a-1", one, two))
	h.eventually("done", func() bool { return h.receipt("a-1") == machine.JobSucceeded })
	assert.Equal(t, []string{"stage " + one.SHA256[:12], "stage " + two.SHA256[:12], "put /opt/a-1a", "put /opt/a-1b"}, h.host.Journal())
	assert.Empty(t, h.host.Staged())
}

func TestObservationGoesOnBesideStaging(t *testing.T) {
	h := working(t)
	release := h.host.BlockStage()
	h.Submit(hostKey, orders, delivery("a-1", contentOf("one")))
	passes := h.host.Observations()
	h.stepping(time.Second, "observed", func() bool { return h.host.Observations() > passes+1 })
	assert.Equal(t, []string{"a-1"}, h.View(hostKey, orders).Queued)
	release()
	h.eventually("done", func() bool { return h.receipt("a-1") == machine.JobSucceeded })
}

// TestWhatWasStagedIsNotSentAgain after contact was lost in the middle.
func TestWhatWasStagedIsNotSentAgain(t *testing.T) {
	h := working(t)
	one, two := contentOf("one"), contentOf("two")
	h.host.FailStage(nil, &transport.LostError{Doing: "stage content", Err: errors.New("connection reset by peer")})
	h.Submit(hostKey, orders, delivery("a-1", one, two))
	h.eventually("handed back", func() bool { return h.View(hostKey, orders).JobErrors["a-1"] != "" })
	assert.Contains(t, h.View(hostKey, orders).JobErrors["a-1"], "connection lost: connection reset by peer; the job was not begun")
	h.stepping(time.Second, "back", h.state(fleet.Connected))
	h.Submit(hostKey, orders, delivery("a-1", one, two))
	h.eventually("done", func() bool { return h.receipt("a-1") == machine.JobSucceeded })
	assert.Equal(t, []int32{1, 1}, []int32{one.opened.Load(), two.opened.Load()})
}

// TestAFailedDownloadIsNotTheHostsFault: at its beginning, in its middle, and with another content than declared.
func TestAFailedDownloadIsNotTheHostsFault(t *testing.T) {
	cases := map[string]struct {
		open func(context.Context) (io.ReadCloser, error)
		want string
	}{
		"refused": {func(context.Context) (io.ReadCloser, error) {
			return nil, errors.New("GET https://files.example/app: 503 Service Unavailable")
		}, "503 Service Unavailable; the job was not begun"},
		"broken off": {func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(bytes.NewReader([]byte("o")), failing{errors.New("unexpected EOF")})), nil
		}, "unexpected EOF; the job was not begun"},
		"too long": {func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(make([]byte, 1<<20))), nil
		}, "it is longer than 3 bytes; the job was not begun"},
		"another": {func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader([]byte("eno"))), nil
		}, "the digest of the content is not the declared one; the job was not begun"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			h := working(t)
			blob := contentOf("one")
			blob.Open = test.open
			h.Submit(hostKey, orders, delivery("a-1", blob))
			h.eventually("handed back", func() bool { return h.View(hostKey, orders).JobErrors["a-1"] != "" })
			assert.Contains(t, h.View(hostKey, orders).JobErrors["a-1"], test.want)
			h.settled()
			assert.True(t, h.state(fleet.Connected)())
			assert.Equal(t, []int{1, 1}, []int{h.host.Logins(), h.host.Sessions()}, "the connection is kept")
			assert.Empty(t, h.host.Jobs())
			h.Submit(hostKey, orders, delivery("a-1", contentOf("one")))
			h.eventually("done", func() bool { return h.receipt("a-1") == machine.JobSucceeded })
		})
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestAJobIsCancelledWhileItsContentIsOnTheWay(t *testing.T) {
	h := working(t)
	release := h.host.BlockStage()
	defer release()
	blob := contentOf("one")
	h.Submit(hostKey, orders, delivery("a-1", blob))
	h.eventually("on the way", func() bool { return blob.opened.Load() == 1 })
	h.Cancel(hostKey, orders, "a-1")
	assert.Equal(t, "cancelled before it was begun; nothing was done", h.View(hostKey, orders).JobErrors["a-1"])
	h.Submit(hostKey, orders, restart("a-2"))
	h.eventually("the lane is free", func() bool { return len(h.host.Jobs()) == 1 })
	assert.Equal(t, []string{"put /tmp/a-2"}, h.host.Journal())
	assert.True(t, h.state(fleet.Connected)())
}

// TestANewEndpointEndsStaging: what was decided for the old one is not carried out.
func TestANewEndpointEndsStaging(t *testing.T) {
	h := working(t)
	release := h.host.BlockStage()
	blob := contentOf("one")
	h.Submit(hostKey, orders, delivery("a-1", blob))
	h.eventually("on the way", func() bool { return blob.opened.Load() == 1 })
	e := endpoint("web")
	e.Credentials.Version = "2"
	e.Version = e.Digest()
	h.Configure(hostKey, e)
	assert.Contains(t, h.View(hostKey, orders).JobErrors["a-1"], "the Host was changed before the job was begun")
	h.eventually("connected anew", func() bool { return h.status().Version == e.Version && h.status().State == fleet.Connected })
	release()
	h.eventually("the old connection is closed", func() bool { return h.host.Sessions() == 1 })
	h.settled()
	assert.Empty(t, h.host.Jobs())
}

func TestStagingHasATimeLimitOfItsOwn(t *testing.T) {
	h := working(t, func(o *fleet.Options) { o.HandOver = 200 * time.Millisecond })
	release := h.host.BlockStage()
	defer release()
	slow := contentOf("one")
	h.Submit(hostKey, orders, delivery("a-1", slow))
	h.eventually("given up", func() bool { return h.View(hostKey, orders).JobErrors["a-1"] != "" })
	assert.Contains(t, h.View(hostKey, orders).JobErrors["a-1"], "was not on the host after 200ms (at least 256 KiB a second are expected)")
	h.settled()
	assert.True(t, h.state(fleet.Connected)(), "a slow line is not a lost host")

	large := contentOf("two")
	large.Size = 3 << 20 // 12 seconds
	h.Submit(hostKey, orders, delivery("a-2", large))
	h.eventually("on the way", func() bool { return large.opened.Load() == 1 })
	time.Sleep(500 * time.Millisecond)
	assert.Empty(t, h.View(hostKey, orders).JobErrors["a-2"], "what is large has more time")
}
