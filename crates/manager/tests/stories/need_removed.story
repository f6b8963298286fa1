# First nothing runs with the binding any more, then it is ended.
auto on
estate db offering=postgresql; cache offering=redis; web needs=db,cache instances=2
auto off
estate db offering=postgresql; cache offering=redis; web needs=db instances=2
auto on
tick 1s
# The need goes at the same time: it serves until its last user has been replaced.
auto off
estate cache offering=redis; web instances=2
auto on
tick 1s
status
