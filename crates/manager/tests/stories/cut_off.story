# Whether an endpoint was opened elsewhere before ostler was cut off is not known: it is opened again where it belongs.
auto on
estate db endpoint=5432; web needs=db
auto off
estate db endpoint=5433; web needs=db
ended open db cut-off
estate db endpoint=5432; web needs=db
ended open db ok
# Whether a binding was made elsewhere is not known either: it is made again.
estate db endpoint=5433; web needs=db
ended open db ok
resume started
estate db endpoint=5432; web needs=db
ended open db ok
ended open db ok
ended observe db-1 ok
probe db-1 ready
ended start db-1 ok
