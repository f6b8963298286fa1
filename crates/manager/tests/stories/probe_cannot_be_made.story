# What could not be asked stays what it was: callers, consumers and readiness are left as they are.
auto on
estate db; web needs=db
auto off
probe db-1 unknown
status
tick 1h
die web-1
probe web-1 ready
probe db-1 ready
status
# One that was never seen ready stays that, and nobody stops it for what nobody saw.
ask restart db
ended stop db-1 ok
ended start db-1 ok
probe db-1 unknown
status
tick 1h
# Once it can be asked, its answer counts.
probe db-1 unready
