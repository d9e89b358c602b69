module maniple.bench/peer

go 1.25
