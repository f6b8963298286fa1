# A question is told once, and again when it has other words or comes up although a person answered it.
estate web
ended open web ok
ended provision web-1 person
estate web env=blue
ended observe web-1 ok
ended provision web-1 person
ask restart web
ended observe web-1 ok
ended provision web-1 person
# Nor is it told again because ostler was started again.
resume started
tick 1h
