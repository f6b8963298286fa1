# What the broker gives is to be renewed as soon as it arrives, because the clock of one of both is wrong: it is renewed
# now and then, not without end.
lasts 0ms
estate db offering=bought; web needs=db
auto on
tick 9m
status
tick 2m
status
