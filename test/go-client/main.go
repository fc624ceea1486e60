// A client of the metald API in Go: the code that protoc and its plugins generate from proto/, before a daemon. It makes
// the calls that it reads from standard input, one JSON object a line, and prints what came of each on a line of its own.
//
// Google's own gRPC library speaks gRPC. The library for Connect in Go is not packaged by Debian, so that a transport
// of Connect's unary calls (connect.go) stands in for it below the same generated client.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"time"

	vm "berth.example/vmprovisionerv1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// order is a call to make.
type order struct {
	// Call is the name of a method of VmService, or "Reflect".
	Call     string            `json:"call"`
	Request  json.RawMessage   `json:"request"`
	Metadata map[string]string `json:"metadata"`
	// TimeoutMs is the deadline of the call; 0: none.
	TimeoutMs int `json:"timeout_ms"`
}

// outcome is what came of one.
type outcome struct {
	Reply json.RawMessage `json:"reply,omitempty"`
	Error *failure        `json:"error,omitempty"`
	// Packed tells that the reply came compressed.
	Packed bool `json:"packed"`
	// Proto is the version of HTTP, where the transport tells.
	Proto string `json:"proto,omitempty"`
}

type failure struct {
	Code     string            `json:"code"`
	Message  string            `json:"message"`
	Reason   string            `json:"reason,omitempty"`
	Domain   string            `json:"domain,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
}

type handler func(ctx context.Context, request json.RawMessage) (proto.Message, error)

// message is a pointer to a generated struct.
type message[T any] interface {
	*T
	proto.Message
}

func handle[Q any, PQ message[Q], R proto.Message](call func(context.Context, PQ, ...grpc.CallOption) (R, error)) handler {
	return func(ctx context.Context, text json.RawMessage) (proto.Message, error) {
		request := PQ(new(Q))
		if err := protojson.Unmarshal(text, request); err != nil {
			return nil, err
		}
		return call(ctx, request)
	}
}

func handlers(client vm.VmServiceClient) map[string]handler {
	return map[string]handler{
		"CreateVm":   handle(client.CreateVm),
		"DeleteVm":   handle(client.DeleteVm),
		"BootVm":     handle(client.BootVm),
		"ShutdownVm": handle(client.ShutdownVm),
		"PauseVm":    handle(client.PauseVm),
		"ResumeVm":   handle(client.ResumeVm),
		"RebootVm":   handle(client.RebootVm),
		"GetVmInfo":  handle(client.GetVmInfo),
		"ListVms":    handle(client.ListVms),
	}
}

func main() {
	target := flag.String("target", "", "host:port")
	protocol := flag.String("protocol", "grpc", "grpc, connect or connect+json")
	pack := flag.Bool("gzip", false, "compress requests and take compressed replies")
	ca := flag.String("ca", "", "PEM file of the certificate to trust; none: without TLS")
	flag.Parse()
	if err := run(*target, *protocol, *pack, *ca); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(target, protocol string, pack bool, ca string) error {
	trust, err := trusting(ca)
	if err != nil {
		return err
	}
	seen := &seen{}
	var conn grpc.ClientConnInterface
	if protocol == "grpc" {
		grpcConn, err := dial(target, pack, trust, seen)
		if err != nil {
			return err
		}
		defer grpcConn.Close()
		conn = grpcConn
	} else {
		conn = newConnect(target, protocol == "connect+json", pack, trust, seen)
	}
	calls := handlers(vm.NewVmServiceClient(conn))
	out := json.NewEncoder(os.Stdout)
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 8<<20)
	for lines.Scan() {
		var o order
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return err
		}
		if err := out.Encode(carryOut(o, calls, conn, seen)); err != nil {
			return err
		}
	}
	return lines.Err()
}

func carryOut(o order, calls map[string]handler, conn grpc.ClientConnInterface, seen *seen) outcome {
	ctx := metadata.NewOutgoingContext(context.Background(), metadata.New(o.Metadata))
	if o.TimeoutMs != 0 {
		deadline, cancel := context.WithTimeout(ctx, time.Duration(o.TimeoutMs)*time.Millisecond)
		defer cancel()
		ctx = deadline
	}
	seen.reset()
	if o.Call == "Reflect" {
		text, err := reflected(ctx, conn)
		return outcome{Reply: text, Error: failureOf(err)}
	}
	reply, err := calls[o.Call](ctx, o.Request)
	result := outcome{Error: failureOf(err), Packed: seen.packed(), Proto: seen.version()}
	if err == nil {
		result.Reply, err = protojson.MarshalOptions{UseProtoNames: true}.Marshal(reply)
		result.Error = failureOf(err)
	}
	return result
}

// failureOf decodes an error as any client of gRPC does, its details included.
func failureOf(err error) *failure {
	if err == nil {
		return nil
	}
	told := status.Convert(err)
	result := &failure{Code: told.Code().String(), Message: told.Message()}
	for _, detail := range told.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			result.Reason, result.Domain, result.Metadata = info.Reason, info.Domain, info.Metadata
		}
	}
	return result
}

func dial(target string, pack bool, trust *tls.Config, seen *seen) (*grpc.ClientConn, error) {
	options := []grpc.DialOption{grpc.WithStatsHandler(seen)}
	if trust == nil {
		options = append(options, grpc.WithInsecure())
	} else {
		options = append(options, grpc.WithTransportCredentials(credentials.NewTLS(trust)))
	}
	if pack {
		options = append(options, grpc.WithDefaultCallOptions(grpc.UseCompressor(gzip.Name)))
	}
	return grpc.Dial(target, options...)
}

func newConnect(target string, asJSON, pack bool, trust *tls.Config, seen *seen) grpc.ClientConnInterface {
	scheme := "http"
	if trust != nil {
		scheme = "https"
	}
	// What compresses is seen here, not undone by the library.
	transport := &http.Transport{TLSClientConfig: trust, ForceAttemptHTTP2: true, DisableCompression: true}
	return &connect{
		base: scheme + "://" + target, json: asJSON, gzip: pack, http: &http.Client{Transport: transport}, seen: seen,
	}
}

func trusting(ca string) (*tls.Config, error) {
	if ca == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", ca)
	}
	return &tls.Config{RootCAs: roots}, nil
}
