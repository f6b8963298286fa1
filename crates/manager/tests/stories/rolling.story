# One of two at a time, one of five at a time.
auto on
estate web instances=2
estate web instances=2 env=blue
estate web instances=5 env=blue
auto off
ask restart web
ended stop web-1 ok
ended start web-1 ok
# Restarted in the middle: nobody is ready as far as is known, and so nobody else is stopped.
resume started
auto on
tick 1s
status
