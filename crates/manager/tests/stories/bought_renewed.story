# What a broker gives to get at an instance ends by itself: it is renewed in time, for the consumer and for ostler's own
# look at the instance; what was before is ended once nobody uses it.
lasts 1h
estate db offering=bought; web needs=db
auto on
tick 59m
tick 1m
status
# The broker does not give new ones: the old ones are used for as long as they are good.
auto off
tick 59m
tick 1m
ended bind web/db ok
ended start db-1 lost
tick 1s
status
ended observe db-1 ok
auto on
tick 1m
status
