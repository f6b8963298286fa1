# The broker refuses to end credentials that came with a lost answer. Asking again has growing pauses, and nothing waits
# for it: the database is used, and seen to be sick, meanwhile.
estate db offering=bought
ended open db ok
ended provision db-1 ok
ended start db-1 lost
ended observe db-1 ok
ended start db-1 ok
ended tidy db/db person
probe db-1 ready
status
tick 2s
ended tidy db/db temporary
probe db-1 unready
tick 1s
ended observe db-1 ok
status
probe db-1 ready
tick 5m
# At last they are ended, and nobody hears of it any more.
ended tidy db/db ok
status
