# A database at a broker: asked for once, looked at through a binding of ostler's own, kept over a restart.
estate db offering=bought; web needs=db
ended open db ok
ended open web ok
accepted provision db-1
ended provision db-1 ok
ended start db-1 ok
probe db-1 ready
ended bind web/db ok
auto on
status
# Everything of ostler was gone: it looks before it does anything.
resume started
status
# It answers nobody. Its provider has to heal it: ostler cannot restart it, and callers stay with it.
auto off
probe db-1 unready
tick 1m
status
probe db-1 ready
auto on
ask down
status
