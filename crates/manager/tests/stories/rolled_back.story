# A change after which it does not work is taken back; the other instance never got it.
auto on
estate web instances=2 env=one
tick 10m
auto off
estate web instances=2 env=two
ended stop web-1 ok
ended start web-1 ok
die web-1 spent
auto on
tick 3m
status
# The same file again is no other change.
estate web instances=2 env=two
tick 1m
# A person can insist.
ask restart web
tick 1m
status
