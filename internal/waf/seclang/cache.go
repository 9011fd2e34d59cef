package seclang

import (
	"hash/maphash"
	"slices"
	"strings"
	"sync"
)

// The cache remembers what was found in values: header values, tokens and
// form fields come again and again. It is bounded in bytes, and its hash is
// keyed, so that nobody can aim for one place; a hit compares the whole value.
const (
	cacheShards = 64
	// cacheBytes bounds one generation of a shard; two are kept.
	cacheBytes = 16 << 20 / cacheShards / 2
	// cacheValue is the longest value that is kept.
	cacheValue = 8 << 10
	// cacheOverhead is what an entry costs besides its value.
	cacheOverhead = 96
)

type cache struct {
	seed   maphash.Seed
	shards [cacheShards]shard
}

type shard struct {
	mu         sync.Mutex
	young, old map[cacheKey]hits
	bytes      int
}

type cacheKey struct {
	class int
	value string
}

func newCache() *cache { return &cache{seed: maphash.MakeSeed()} }

func (c *cache) shard(class int, value string) *shard {
	// The map hashes again, with a key of its own; this only spreads locks.
	return &c.shards[(maphash.String(c.seed, value)+uint64(class))%cacheShards]
}

func (c *cache) get(class int, value string) (hits, bool) {
	if len(value) > cacheValue {
		return nil, false
	}
	s := c.shard(class, value)
	k := cacheKey{class, value}
	s.mu.Lock()
	h, ok := s.young[k]
	if !ok {
		if h, ok = s.old[k]; ok {
			delete(s.old, k)
			k.value = strings.Clone(value)
			s.add(k, h)
		}
	}
	s.mu.Unlock()
	return h, ok
}

// put remembers a copy of h and returns it.
func (c *cache) put(class int, value string, h hits) hits {
	h = slices.Clone(h)
	if len(value) > cacheValue {
		return h
	}
	s := c.shard(class, value)
	s.mu.Lock()
	s.add(cacheKey{class, strings.Clone(value)}, h)
	s.mu.Unlock()
	return h
}

func (s *shard) add(k cacheKey, h hits) {
	if s.bytes > cacheBytes {
		s.old, s.young, s.bytes = s.young, nil, 0
	}
	if s.young == nil {
		s.young = map[cacheKey]hits{}
	}
	s.young[k] = h
	s.bytes += cacheOverhead + len(k.value) + 2*len(h)
}

func (c *cache) reset() {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		clear(s.young)
		s.old, s.bytes = nil, 0
		s.mu.Unlock()
	}
}
