# What there is to run. Each target is a line or two; what it does is in ops/dev and in the programs.
SHELL := /bin/bash
# Where `make up` keeps what it is told.
DATA ?= .cinelog/data
.PHONY: demo demo-full up test lint docs clean bench crash fuzz

# ---- use it --------------------------------------------------------------------------------------------------------
demo:      ; @ops/dev/setup && ops/dev/build && ops/dev/built cinelog demo --out demo-out
demo-full:
	@ops/dev/setup kafka && ops/dev/build
	@ops/dev/with-services --kafka --s3 -- ops/dev/demo-full
up:        ; @ops/dev/setup && ops/dev/build && ops/dev/built cinelog up --data "$(DATA)"

# ---- work on it ----------------------------------------------------------------------------------------------------
test:      ; @ops/dev/setup kafka data && ops/dev/with-services --kafka --s3 -- ops/dev/test
lint:      ; @ops/dev/setup && ops/dev/lint
bench:     ; @ops/dev/setup kafka bench && ops/dev/with-services --logical --kafka --s3 -- ops/dev/bench $(NAME)
crash:     ; @ops/dev/setup kafka && ops/dev/with-services --s3 -- ops/dev/crash
fuzz:      ; @ops/dev/setup fuzz && ops/dev/fuzz
docs:      ; @ops/dev/setup kafka && ops/dev/with-services --kafka --s3 -- ops/dev/docs
clean:     ; cargo clean && rm -rf fuzz/target demo-out .cinelog/kafka .cinelog/python .cinelog/debezium
