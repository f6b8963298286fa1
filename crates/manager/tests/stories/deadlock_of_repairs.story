# One at a time: who waits for what it needs keeps nobody from repairing just that.
auto on
estate at-once=1; zdb offering=redis; web needs=zdb
auto off
hang web-1
probe web-1 unready
die zdb-1 spent
ended stop web-1 ok
ended start zdb-1 ok
probe zdb-1 ready
ended start web-1 ok
probe web-1 ready
status
