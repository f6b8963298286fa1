# A program that takes its time is not hurried; one that never comes is started again, and people are told.
estate web
ended open web ok
ended provision web-1 ok
ended start web-1 ok
tick 10s
probe web-1 unready
tick 49s
tick 1s
ended stop web-1 ok
ended start web-1 ok
auto on
never-ready web
tick 10m
status
mended web
tick 10m
status
