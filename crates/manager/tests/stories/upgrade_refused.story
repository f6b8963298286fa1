# What makes no sense is refused with the reason.
auto on
offers web 1.0
estate upgrade freeze=2026-01-05_-_2026-01-06 soak=1m; web; db offering=postgresql version=15
ask upgrade web
offers web 1.0,1.1
ask upgrade web
ask upgrade db to 16 despite the old one is out of support
ask upgrade nobody despite because
ask rollback web
ask upgrade web despite the old one has a hole
ask drill web kill because
tick 2m
ask upgrade web despite once more
