package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sort"

	"google.golang.org/grpc"
	reflection "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
)

// reflected asks a server what it serves, as grpcurl does: the services, and the methods of each from the file that
// declares it.
func reflected(ctx context.Context, conn grpc.ClientConnInterface) (json.RawMessage, error) {
	stream, err := reflection.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		return nil, err
	}
	ask := func(request *reflection.ServerReflectionRequest) (*reflection.ServerReflectionResponse, error) {
		if err := stream.Send(request); err != nil {
			return nil, err
		}
		return stream.Recv()
	}
	list, err := ask(&reflection.ServerReflectionRequest{
		MessageRequest: &reflection.ServerReflectionRequest_ListServices{},
	})
	if err != nil {
		return nil, err
	}
	methods := map[string][]string{}
	for _, service := range list.GetListServicesResponse().GetService() {
		answer, err := ask(&reflection.ServerReflectionRequest{
			MessageRequest: &reflection.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: service.Name},
		})
		if err != nil {
			return nil, err
		}
		found, err := methodsOf(service.Name, answer.GetFileDescriptorResponse().GetFileDescriptorProto())
		if err != nil {
			return nil, err
		}
		methods[service.Name] = found
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	return json.Marshal(methods)
}

func methodsOf(service string, files [][]byte) ([]string, error) {
	methods := []string{}
	for _, bytes := range files {
		file := &descriptorpb.FileDescriptorProto{}
		if err := proto.Unmarshal(bytes, file); err != nil {
			return nil, err
		}
		for _, declared := range file.Service {
			if fmt.Sprintf("%s.%s", file.GetPackage(), declared.GetName()) != service {
				continue
			}
			for _, method := range declared.Method {
				methods = append(methods, method.GetName())
			}
		}
	}
	sort.Strings(methods)
	return methods, nil
}
