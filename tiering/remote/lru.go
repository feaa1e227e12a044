package remote

import (
	"container/list"
	"sync"
)

// lru holds the newest countMax values by key.
type lru[V any] struct {
	countMax int

	mu    sync.Mutex
	byKey map[string]*list.Element
	order *list.List // of lruItem[V], most recently used first
}

type lruItem[V any] struct {
	key   string
	value V
}

func newLRU[V any](countMax int) *lru[V] {
	return &lru[V]{countMax: countMax, byKey: map[string]*list.Element{}, order: list.New()}
}

func (l *lru[V]) get(key string) (v V, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, ok := l.byKey[key]
	if !ok {
		return v, false
	}
	l.order.MoveToFront(e)
	return e.Value.(lruItem[V]).value, true
}

func (l *lru[V]) put(key string, v V) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e, ok := l.byKey[key]; ok {
		e.Value = lruItem[V]{key, v}
		l.order.MoveToFront(e)
		return
	}
	l.byKey[key] = l.order.PushFront(lruItem[V]{key, v})
	if l.order.Len() > l.countMax {
		last := l.order.Back()
		l.order.Remove(last)
		delete(l.byKey, last.Value.(lruItem[V]).key)
	}
}
