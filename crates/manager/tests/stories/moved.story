# A person has a service moved that still answers: nothing is lost, and what it was is kept.
estate providers=there; db offering=postgresql backup=15m; web needs=db
auto on
status
auto off
ask failover db
# First of all callers are cut off. Until then nothing else is done.
ended fence db ok
# The old instance is backed up for the last time while the new one is made.
ended backup db-1 ok
auto on
status
# What it was can be deleted by name, and what serves cannot.
ask discard db-2
ask discard db-1
status
