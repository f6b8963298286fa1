# A need that works and rejects the credentials is given them again, once; then something else is wrong.
auto on
estate db offering=redis; web needs=db
verified web/db rejected
tick 10s
verified web/db rejected
tick 10s
verified web/db ok
tick 20m
verified web/db rejected
tick 1m
status
