package main

import "testing"

func TestFieldsAreInBytes(t *testing.T) {
	status := []byte("VmSize:\t 9000 kB\nVmRSS:\t   12 kB\nVmPTE:\t8 kB\n")
	if got := bytesOf(status, "VmRSS:"); got != 12<<10 {
		t.Errorf("resident are %d", got)
	}
	if got := bytesOf(status, "VmSwap:"); got != 0 {
		t.Errorf("what is missing is %d", got)
	}
}

func TestMemoryThatIsTouchedShows(t *testing.T) {
	before, err := takeFootprint()
	if err != nil {
		t.Fatal(err)
	}
	all := make([]byte, 64<<20)
	for at := 0; at < len(all); at += 4096 {
		all[at] = 1
	}
	now, err := takeFootprint()
	if err != nil {
		t.Fatal(err)
	}
	if now.Resident < before.Resident+60<<20 || now.Mappings == 0 {
		t.Errorf("%+v, then %+v", before, now)
	}
	sink.Add(uint64(all[0]))
}
