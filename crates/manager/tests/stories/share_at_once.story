# Twenty of a hundred percent: two of ten at a time, and all in the end.
auto on
estate web instances=10
auto off
hang web-1
hang web-2
hang web-3
hang web-4
hang web-5
probe web-1 unready
probe web-2 unready
probe web-3 unready
probe web-4 unready
probe web-5 unready
ended stop web-1 ok
ended start web-1 ok
probe web-1 ready
auto on
tick 10s
status
