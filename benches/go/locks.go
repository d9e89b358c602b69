package main

import (
	"runtime"
	"sync"
)

func mutex(n counts) measured {
	var lock sync.Mutex
	var count uint64
	return timed(n.Locks, func() {
		for range n.Locks {
			lock.Lock()
			count++
			lock.Unlock()
		}
	})
}

func mutexContended(n counts) measured {
	var lock sync.Mutex
	count := 0
	measured := timed(n.ContendedLocks, func() {
		both(func(int) {
			for range n.ContendedLocks / 2 {
				lock.Lock()
				runtime.Gosched()
				count++
				lock.Unlock()
			}
		})
	})
	if count != n.ContendedLocks {
		panic("two held the lock")
	}
	return measured
}

func rwlockRead(n counts) measured {
	var lock sync.RWMutex
	var value, sum uint64
	measured := timed(n.Grants, func() {
		for range n.Grants {
			lock.RLock()
			sum += value
			lock.RUnlock()
		}
	})
	sink.Store(sum)
	return measured
}

func rwlockWrite(n counts) measured {
	var lock sync.RWMutex
	var count uint64
	return timed(n.Grants, func() {
		for range n.Grants {
			lock.Lock()
			count++
			lock.Unlock()
		}
	})
}

// semaphore is a channel with room for those who hold a permit, which is how Go writes one.
func semaphore(n counts) measured {
	permits := make(chan struct{}, 1)
	return timed(n.Grants, func() {
		for range n.Grants {
			permits <- struct{}{}
			<-permits
		}
	})
}

func semaphoreContended(n counts) measured {
	permits := make(chan struct{}, 1)
	return timed(n.ContendedLocks, func() {
		both(func(int) {
			for range n.ContendedLocks / 2 {
				permits <- struct{}{}
				runtime.Gosched()
				<-permits
			}
		})
	})
}

// both has two goroutines do it, each with its number, and waits for them.
func both(do func(number int)) {
	var group sync.WaitGroup
	for number := range 2 {
		group.Go(func() { do(number) })
	}
	group.Wait()
}
