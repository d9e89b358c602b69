package main

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// seen is what the benches wait for.
type seen struct {
	Aggregates uint64  `json:"aggregates"`
	Seconds    float64 `json:"seconds"`
	CPUSeconds float64 `json:"cpu_seconds"`
	P50        float64 `json:"p50_us"`
	P99        float64 `json:"p99_us"`
}

// The phases of a meter: what ends in the first does not count.
const (
	warmUp = iota
	measure
	stop
)

// meter is what the leaders and the clock share.
type meter struct {
	phase atomic.Int32
}

// watch has the leaders warm up, measures so long, and has them stop.
func (m *meter) watch(measured time.Duration) seen {
	time.Sleep(measured / 5)
	m.phase.Store(measure)
	watch := startStopwatch()
	time.Sleep(measured)
	wall, cpu := watch.elapsed()
	m.phase.Store(stop)
	return seen{Seconds: wall.Seconds(), CPUSeconds: cpu.Seconds()}
}

// histogram counts durations in buckets, of which 64 share each power of two: each is right to 1.6 %.
type histogram struct {
	buckets [64 * shares]uint64
	count   uint64
}

const (
	shareBits = 6
	shares    = 1 << shareBits
)

func (h *histogram) record(duration time.Duration) {
	h.buckets[bucket(uint64(duration))]++
	h.count++
}

func (h *histogram) add(other *histogram) {
	for i, count := range other.buckets {
		h.buckets[i] += count
	}
	h.count += other.count
}

// quantile is a duration that such a share of all are not longer than.
func (h *histogram) quantile(share float64) time.Duration {
	wanted := max(uint64(share*float64(h.count)+0.5), 1)
	var reached uint64
	for i, count := range h.buckets {
		if reached += count; reached >= wanted {
			return time.Duration(longestIn(i))
		}
	}
	return 0
}

// bucket is the place of a number of nanoseconds: small ones have one each.
func bucket(nanos uint64) int {
	shift := max(bits.Len64(nanos)-shareBits-1, 0)
	return shift<<shareBits + int(nanos>>shift)
}

// longestIn is the largest number of nanoseconds in such a place.
func longestIn(bucket int) uint64 {
	shift := max(bucket>>shareBits-1, 0)
	return uint64(bucket-shift<<shareBits+1)<<shift - 1
}
