# Nothing answers any more and nothing died: ostler does not trust its own eyes, for a while.
auto on
estate a; b; c; d
auto off
probe a-1 silent
probe b-1 silent
probe c-1 silent
probe d-1 silent
tick 10s
status
tick 30s
probe a-1 ready
probe b-1 ready
tick 10s
status
# It has lasted for too long: what can be done is done, within all brakes.
tick 5m
