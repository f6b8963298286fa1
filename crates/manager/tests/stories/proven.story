# New credentials take the place of those in use only once they are proven to be as good.
lasts 1h
estate db offering=bought; web needs=db
auto on
tick 10m
verified web/db ok
tick 50m
status
# They are not as good: web goes on with what it has.
verified web/db broken
status
verified web/db ok
# What was never relied on is not waited for; nor is a person who wants it anew.
verified web/db broken
tick 1h
verified web/db ok
tick 1h
ask restart web
