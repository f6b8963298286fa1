# The reflex has started it again before the manager hears of it.
auto on
estate web instances=2
auto off
die web-1
probe web-1 ready
# The only one: callers stay with it and wait.
auto on
estate web
auto off
die web-1
probe web-1 ready
status
