# What others need comes up first; nothing is started before what it needs is ready and bound.
estate db offering=postgresql; cache offering=redis; web needs=db,cache instances=2 endpoint=8080
ended open cache ok
ended open db ok
ended open web ok
ended provision web-1 ok
ended provision web-2 ok
ended provision db-1 ok
ended start db-1 ok
status
probe db-1 ready
ended bind web/db ok
ended provision cache-1 ok
ended start cache-1 ok
probe cache-1 ready
ended bind web/cache ok
ended start web-1 ok
probe web-1 ready
status
ended start web-2 ok
probe web-2 ready
status
tick 10m
