# Who waits for the instance that holds its binding is bound to another once that one is retired.
estate db instances=2 endpoint=5432; web needs=db
ended open db ok
ended open web ok
ended provision db-2 ok
ended start db-2 ok
probe db-2 ready
ended bind web/db ok
ended provision db-1 ok
ended start db-1 ok
probe db-1 ready
ended provision web-1 ok
ended start web-1 ok
probe web-1 ready
estate db instances=2 endpoint=5433; web needs=db
probe db-2 unready
ended open db ok
ask scale db 1
