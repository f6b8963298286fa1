# It runs once for all, on behalf of one; while it fails, nothing starts.
estate web instances=3 before
ended open web ok
ended provision web-2 ok
ended provision web-1 ok
ended provision web-3 ok
ended before web-2 temporary
tick 2s
status
auto on
tick 5s
# Only what changes makes it run again.
ask restart web
estate web instances=3 before env=blue
