package fleet

import (
	"context"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/event"
)

// mailbox is what one controller is still to be told. Adding to it never
// blocks; an object that is in it already is not added again, so it never
// holds more than there are objects.
type mailbox struct {
	out  chan event.GenericEvent
	wake chan struct{} // capacity 1: it is not empty

	mu      sync.Mutex
	pending map[types.NamespacedName]struct{}
	order   []types.NamespacedName
}

func newMailbox() *mailbox {
	return &mailbox{
		out:     make(chan event.GenericEvent),
		wake:    make(chan struct{}, 1),
		pending: map[types.NamespacedName]struct{}{},
	}
}

func (m *mailbox) add(key types.NamespacedName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, there := m.pending[key]; there {
		return
	}
	m.pending[key] = struct{}{}
	m.order = append(m.order, key)
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// next takes the object out that has waited longest. It is out before it is
// delivered, so a change that comes during delivery is told as well.
func (m *mailbox) next() (types.NamespacedName, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.order) == 0 {
		m.order = nil
		return types.NamespacedName{}, false
	}
	key := m.order[0]
	m.order = m.order[1:]
	delete(m.pending, key)
	return key, true
}

// run delivers until ctx ends.
func (m *mailbox) run(ctx context.Context) {
	for {
		key, ok := m.next()
		if !ok {
			select {
			case <-ctx.Done():
				return
			case <-m.wake:
				continue
			}
		}
		object := &metav1.PartialObjectMetadata{}
		object.Namespace, object.Name = key.Namespace, key.Name
		select {
		case <-ctx.Done():
			return
		case m.out <- event.GenericEvent{Object: object}:
		}
	}
}
