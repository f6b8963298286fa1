# It lives and does not answer: stopped and started. A year of rare troubles is no crash loop.
auto on
estate web
hang web-1
tick 10m
hang web-1
tick 10m
hang web-1
tick 10m
hang web-1
tick 10m
status
# A check behind it fails: seen, and left alone.
auto off
probe web-1 shallow
status
# A probe that could not be made says nothing.
probe web-1 ready
probe web-1 unknown
tick 1h
# What holds data has its full time to end.
auto on
estate db offering=postgresql
hang db-1
tick 10m
