/** gRPC server reflection, for tools such as grpcurl: this API's own files, nothing else. */

import { create, type DescFile, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import { Code, type ConnectRouter } from '@connectrpc/connect';
import {
  file_grpc_reflection_v1_reflection,
  ServerReflection,
  type ServerReflectionRequest,
  type ServerReflectionResponse,
  ServerReflectionResponseSchema,
} from './gen/grpc/reflection/v1/reflection_pb.js';
import { file_vmprovisioner_v1_vm } from './gen/vmprovisioner/v1/vm_pb.js';

const files: readonly DescFile[] = [file_vmprovisioner_v1_vm, file_grpc_reflection_v1_reflection];

type Answer = NonNullable<MessageInitShape<typeof ServerReflectionResponseSchema>['messageResponse']>;

/** A question is a name. Anybody may ask, so that there must not be much to take apart, bytes. */
const maxQuestionBytes = 4096;

export function registerReflection(router: ConnectRouter): void {
  const implementation = {
    async *serverReflectionInfo(requests: AsyncIterable<ServerReflectionRequest>) {
      for await (const request of requests) yield answer(request);
    },
  };
  router.service(ServerReflection, implementation, { readMaxBytes: maxQuestionBytes });
}

function answer(request: ServerReflectionRequest): ServerReflectionResponse {
  return create(ServerReflectionResponseSchema, {
    validHost: request.host,
    originalRequest: request,
    messageResponse: find(request.messageRequest),
  });
}

function find(question: ServerReflectionRequest['messageRequest']): Answer {
  switch (question.case) {
    case 'listServices':
      return {
        case: 'listServicesResponse',
        value: { service: files.flatMap(({ services }) => services.map(({ typeName }) => ({ name: typeName }))) },
      };
    case 'fileByFilename':
      return describe(files.find((file) => file.proto.name === question.value));
    case 'fileContainingSymbol':
      return describe(files.find((file) => symbols(file).has(question.value)));
    default:
      return failure(Code.NotFound, 'there are no extensions');
  }
}

function describe(file: DescFile | undefined): Answer {
  if (!file) return failure(Code.NotFound, 'not found');
  return {
    case: 'fileDescriptorResponse',
    value: { fileDescriptorProto: [toBinary(FileDescriptorProtoSchema, file.proto)] },
  };
}

function failure(errorCode: Code, errorMessage: string): Answer {
  return { case: 'errorResponse', value: { errorCode, errorMessage } };
}

/** Full names of what a file declares: messages, enums, services and their methods. */
function symbols(file: DescFile): ReadonlySet<string> {
  return new Set([
    ...file.messages.map(({ typeName }) => typeName),
    ...file.enums.map(({ typeName }) => typeName),
    ...file.services.flatMap((service) => [
      service.typeName,
      ...service.methods.map(({ name }) => `${service.typeName}.${name}`),
    ]),
  ]);
}
