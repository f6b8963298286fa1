# No answer came, and it is not to be seen: it is deleted under its own name, and asked for under another.
estate db offering=bought
ended open db ok
ended provision db-1 in-doubt
ended observe db-1 ok
status
ended mitigate db-1/1 ok
tick 1s
ended provision db-1 left-behind
tick 1s
ended mitigate db-1/2 temporary
ended provision db-1 ok
ended start db-1 ok
probe db-1 ready
status
# It appears after all, when nobody expects it any more.
appear db-1/1
auto on
tick 2m
status
tick 25h
