package main

import (
	"context"
	"sync"

	"google.golang.org/grpc/stats"
)

// seen is what the transport tells of the last reply beside its message. It watches gRPC's library as its stats.Handler.
type seen struct {
	mutex sync.Mutex
	pack  bool
	proto string
}

func (s *seen) note(packed bool, version string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.pack, s.proto = packed, version
}

func (s *seen) reset() { s.note(false, "") }

func (s *seen) packed() bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.pack
}

func (s *seen) version() string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.proto
}

func (s *seen) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (s *seen) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (s *seen) HandleConn(context.Context, stats.ConnStats)                       {}

func (s *seen) HandleRPC(_ context.Context, event stats.RPCStats) {
	switch event := event.(type) {
	case *stats.InHeader:
		s.note(event.Compression == "gzip", "HTTP/2.0")
	}
}
