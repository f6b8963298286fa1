# What makes no sense is refused, all of it at once.
auto on
estate providers=there; db offering=postgresql; web
ask override pin db there
ask override pin nothing there by Ada for 1h
ask override pin db nowhere by Ada for 1h
ask override pin db here large by Ada for 1h
ask override forbid nowhere by Ada for 400d
ask override hold web by Ada for 2020-01-01
ask override end override-1
ask override hold web by Ada for 1h
ask override hold web by Ada for 1h
ask override hold web by Bob for 1h
ask override end override-1
ask override end override-2
status
