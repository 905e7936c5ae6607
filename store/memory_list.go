package store

// chain is a doubly linked list. Its nodes are fields of what they stand for,
// so that adding one allocates nothing.
type chain[T any] struct {
	root node[T] // before the front and behind the back
	n    int
}

// node is the place of a value in a chain.
type node[T any] struct {
	prev, next *node[T] // nil: in no chain
	of         *T
}

func (c *chain[T]) len() int { return c.n }

// back returns the last value, or nil.
func (c *chain[T]) back() *T { return c.before(&c.root) }

// front returns the first value, or nil.
func (c *chain[T]) front() *T {
	if c.n == 0 {
		return nil
	}
	return c.root.next.of
}

// before returns the value before n, or nil.
func (c *chain[T]) before(n *node[T]) *T {
	if c.n == 0 {
		return nil
	}
	return n.prev.of // of the root: nil
}

// pushFront puts the value of at the front. n is its node, which is in no
// chain.
func (c *chain[T]) pushFront(n *node[T], of *T) { c.insert(n, of, true) }

// pushBack is pushFront for the back.
func (c *chain[T]) pushBack(n *node[T], of *T) { c.insert(n, of, false) }

func (c *chain[T]) insert(n *node[T], of *T, front bool) {
	if c.root.next == nil {
		c.root.prev, c.root.next = &c.root, &c.root
	}
	after := c.root.prev
	if front {
		after = &c.root
	}
	*n = node[T]{prev: after, next: after.next, of: of}
	n.prev.next, n.next.prev = n, n
	c.n++
}

// remove takes a node out of c.
func (c *chain[T]) remove(n *node[T]) {
	n.prev.next, n.next.prev = n.next, n.prev
	*n = node[T]{}
	c.n--
}

// moveToFront moves a node of c to the front.
func (c *chain[T]) moveToFront(n *node[T]) {
	of := n.of
	c.remove(n)
	c.pushFront(n, of)
}
