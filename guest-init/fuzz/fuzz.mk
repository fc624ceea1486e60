# Fuzz targets: what decodes bytes that a host, a client or an archive chooses. Needs clang with its fuzzer runtime.

FUZZ_TARGETS = resync frames exec_spec identity tar h2
FUZZ_FLAGS = -std=gnu11 -g -O1 -Isrc -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined
FUZZ_resync = src/resync.c
FUZZ_frames = src/frames.c
FUZZ_exec_spec = src/exec_spec.c src/params.c
FUZZ_identity = src/identity.c src/net_address.c src/params.c
FUZZ_tar = src/tar_read.c src/tar_write.c src/beneath.c
FUZZ_h2 = src/h2.c src/resync.c src/params.c src/buffer.c
FUZZ_LIBS_h2 = -lnghttp2

$(OUT)/fuzz-%: fuzz/%.c $(wildcard src/*.c src/*.h) | $(OUT)
	clang $(FUZZ_FLAGS) -o $@ $< $(FUZZ_$*) $(FUZZ_LIBS_$*)

.PHONY: fuzz
fuzz: $(FUZZ_TARGETS:%=$(OUT)/fuzz-%)
	@for target in $(FUZZ_TARGETS); do \
	  mkdir -p $(OUT)/corpus-$$target; \
	  echo "== $$target, $(SECONDS) s"; \
	  $(OUT)/fuzz-$$target -max_total_time=$(SECONDS) -max_len=8192 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
	    -artifact_prefix=$(OUT)/ $(OUT)/corpus-$$target fuzz/corpus/$$target || exit 1; \
	done
