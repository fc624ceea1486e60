package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// connect carries the unary calls of a generated client by the Connect protocol, as its published description has them.
type connect struct {
	base string
	json bool
	gzip bool
	http *http.Client
	seen *seen
}

func (c *connect) Invoke(ctx context.Context, method string, args, reply interface{}, _ ...grpc.CallOption) error {
	request, err := c.request(ctx, method, args.(proto.Message))
	if err != nil {
		return err
	}
	response, err := c.http.Do(request)
	if err != nil {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return status.FromContextError(ctx.Err()).Err()
		}
		return status.Error(codes.Unavailable, err.Error())
	}
	defer response.Body.Close()
	packed := response.Header.Get("Content-Encoding") == "gzip"
	c.seen.note(packed, response.Proto)
	body := io.Reader(response.Body)
	if packed {
		if body, err = gzip.NewReader(body); err != nil {
			return err
		}
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return connectError(response.StatusCode, data)
	}
	if got := response.Header.Get("Content-Type"); got != c.contentType() {
		return fmt.Errorf("the reply is %q", got)
	}
	if c.json {
		return protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(data, reply.(proto.Message))
	}
	return proto.Unmarshal(data, reply.(proto.Message))
}

func (c *connect) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, errors.New("the service has no streams")
}

func (c *connect) contentType() string {
	if c.json {
		return "application/json"
	}
	return "application/proto"
}

func (c *connect) request(ctx context.Context, method string, args proto.Message) (*http.Request, error) {
	marshal := proto.Marshal
	if c.json {
		marshal = protojson.Marshal
	}
	data, err := marshal(args)
	if err != nil {
		return nil, err
	}
	if c.gzip {
		var packed bytes.Buffer
		writer := gzip.NewWriter(&packed)
		writer.Write(data)
		writer.Close()
		data = packed.Bytes()
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+method, bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", c.contentType())
	request.Header.Set("Connect-Protocol-Version", "1")
	if c.gzip {
		request.Header.Set("Content-Encoding", "gzip")
		request.Header.Set("Accept-Encoding", "gzip")
	}
	if deadline, ok := ctx.Deadline(); ok {
		request.Header.Set("Connect-Timeout-Ms", strconv.FormatInt(time.Until(deadline).Milliseconds(), 10))
	}
	sent, _ := metadata.FromOutgoingContext(ctx)
	for name, values := range sent {
		for _, value := range values {
			request.Header.Add(name, value)
		}
	}
	return request, nil
}

// connectError makes the error of gRPC's library of one of Connect, details included.
func connectError(httpStatus int, body []byte) error {
	var told struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Details []struct {
			Type  string `json:"type"`
			Value string `json:"value"`
		} `json:"details"`
	}
	if err := json.Unmarshal(body, &told); err != nil {
		return fmt.Errorf("HTTP %d: %w", httpStatus, err)
	}
	var code codes.Code
	if err := code.UnmarshalJSON([]byte(strconv.Quote(strings.ToUpper(told.Code)))); err != nil {
		return fmt.Errorf("HTTP %d: %w", httpStatus, err)
	}
	result := &rpcstatus.Status{Code: int32(code), Message: told.Message}
	for _, detail := range told.Details {
		value, err := base64.RawStdEncoding.DecodeString(detail.Value)
		if err != nil {
			return err
		}
		result.Details = append(result.Details, &anypb.Any{TypeUrl: "type.googleapis.com/" + detail.Type, Value: value})
	}
	return status.ErrorProto(result)
}
