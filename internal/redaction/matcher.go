package redaction

// matcher is an automaton of Aho and Corasick over all forms, and a set of
// fingerprints for forms that are too long for it. It is not changed after it
// was built, so that any number of streams may use it at once.
type matcher struct {
	nodes    []node
	first    [256]int32 // children of the root
	blocks   map[uint64]struct{}
	outgoing uint64 // what the oldest byte of a block counts for in its fingerprint
	longest  int    // no match is longer
}

// node is a prefix of a form. Its children are a list: nearly all have one.
type node struct {
	child, sibling int32
	fail           int32  // the longest proper suffix that is a prefix of a form
	match          uint16 // length of the longest form that ends here, 0 if none does
	symbol         byte
}

const (
	// longForm keeps the automaton small: from this length on, a form is
	// recognised by the fingerprints of its blocks, at 1/100 of the memory.
	longForm = 1024
	// block is the length of what has a fingerprint. Any occurrence of a long form
	// consists of blocks of that form; so all of it is found, and nearly all of a part of it.
	block      = 64
	multiplier = 0x9e3779b97f4a7c15
)

func newMatcher(forms [][]byte) *matcher {
	m := &matcher{nodes: make([]node, 1), blocks: map[uint64]struct{}{}, outgoing: 1}
	for range block - 1 {
		m.outgoing *= multiplier
	}
	for _, form := range forms {
		if len(form) >= longForm {
			m.addBlocks(form)
			m.longest = max(m.longest, block)
		} else {
			m.add(form)
			m.longest = max(m.longest, len(form))
		}
	}
	m.link()
	return m
}

func (m *matcher) add(form []byte) {
	at := int32(0)
	for _, symbol := range form {
		next := m.step(at, symbol)
		if next == 0 {
			next = m.grow(at, symbol)
		}
		at = next
	}
	m.nodes[at].match = uint16(len(form))
}

func (m *matcher) grow(at int32, symbol byte) int32 {
	next := int32(len(m.nodes))
	n := node{symbol: symbol, sibling: m.nodes[at].child}
	m.nodes = append(m.nodes, n)
	m.nodes[at].child = next
	if at == 0 {
		m.first[symbol] = next
	}
	return next
}

// step is the child for a symbol; 0, the root, if there is none.
func (m *matcher) step(at int32, symbol byte) int32 {
	if at == 0 {
		return m.first[symbol]
	}
	for child := m.nodes[at].child; child != 0; child = m.nodes[child].sibling {
		if m.nodes[child].symbol == symbol {
			return child
		}
	}
	return 0
}

// link sets the failure links, breadth first: the links of shorter prefixes are there when they are needed.
func (m *matcher) link() {
	var queue []int32
	for child := m.nodes[0].child; child != 0; child = m.nodes[child].sibling {
		queue = append(queue, child)
	}
	for i := 0; i < len(queue); i++ {
		at := queue[i]
		for child := m.nodes[at].child; child != 0; child = m.nodes[child].sibling {
			n := &m.nodes[child]
			n.fail = m.next(m.nodes[at].fail, n.symbol)
			if n.match == 0 { // one that ends here by itself is longer than any suffix of it
				n.match = m.nodes[n.fail].match
			}
			queue = append(queue, child)
		}
	}
}

// next is the longest prefix of a form that ends with this symbol.
func (m *matcher) next(at int32, symbol byte) int32 {
	for {
		if to := m.step(at, symbol); to != 0 || at == 0 {
			return to
		}
		at = m.nodes[at].fail
	}
}

// addBlocks fingerprints a form block by block. The last block ends where the form ends.
func (m *matcher) addBlocks(form []byte) {
	for start := 0; start+block <= len(form); start += block {
		m.blocks[fingerprint(form[start:start+block])] = struct{}{}
	}
	m.blocks[fingerprint(form[len(form)-block:])] = struct{}{}
}

func fingerprint(text []byte) uint64 {
	var sum uint64
	for _, symbol := range text {
		sum = sum*multiplier + uint64(symbol) + 1
	}
	return sum
}

// scan is where one stream stands.
type scan struct {
	m     *matcher
	at    int32
	seen  int // bytes, up to block
	sum   uint64
	ring  [block]byte
	place int
}

// feed takes the next byte and returns the length of the longest match that ends with it.
func (s *scan) feed(symbol byte) int {
	s.at = s.m.next(s.at, symbol)
	length := int(s.m.nodes[s.at].match)
	if len(s.m.blocks) > 0 {
		length = max(length, s.roll(symbol))
	}
	return length
}

// roll moves the fingerprint on by one byte. A fingerprint that is met by
// chance hides a little too much, never too little.
func (s *scan) roll(symbol byte) int {
	if s.seen == block {
		s.sum -= (uint64(s.ring[s.place]) + 1) * s.m.outgoing
	} else {
		s.seen++
	}
	s.sum = s.sum*multiplier + uint64(symbol) + 1
	s.ring[s.place] = symbol
	s.place = (s.place + 1) % block
	if _, known := s.m.blocks[s.sum]; known && s.seen == block {
		return block
	}
	return 0
}
