package main

import (
	"testing"
	"time"
)

func TestBucketsAreInOrderAndNarrow(t *testing.T) {
	before := -1
	for nanos := uint64(0); nanos < 1<<40; nanos += nanos/100 + 1 {
		place := bucket(nanos)
		if place < before {
			t.Fatalf("%d ns come before less", nanos)
		}
		before = place
		if longest := longestIn(place); longest < nanos || longest > nanos+nanos/64 {
			t.Fatalf("%d ns count as %d", nanos, longest)
		}
	}
}

func TestQuantilesAreOfAllThatWasAdded(t *testing.T) {
	var one, all histogram
	for micros := range 100 {
		one.record(time.Duration(micros+1) * time.Microsecond)
	}
	all.add(&one)
	all.add(&one)
	if median := all.quantile(0.5).Microseconds(); all.count != 200 || median < 50 || median > 51 {
		t.Errorf("the median of %d is %d", all.count, median)
	}
	if last := all.quantile(1).Microseconds(); last < 100 || last > 102 {
		t.Errorf("the last is %d", last)
	}
}
