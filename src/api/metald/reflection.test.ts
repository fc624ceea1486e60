import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { create, createFileRegistry, type DescMethodBiDiStreaming, fromBinary } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import { Code, createClient } from '@connectrpc/connect';
import { createAsyncIterable } from '@connectrpc/connect/protocol';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { ServerReflection, ServerReflectionRequestSchema } from './gen/grpc/reflection/v1/reflection_pb.js';
import { openTestApi } from './testing/test-api.ts';

describe('reflection, where it is on', () => {
  it('describes the service so that a client without the proto could call it', async () => {
    await using api = await openTestApi({ reflection: true });
    const client = createClient(ServerReflection, createGrpcTransport({ baseUrl: api.url }));
    const questions = [
      { case: 'listServices', value: '' },
      { case: 'fileContainingSymbol', value: 'vmprovisioner.v1.VmService' },
      { case: 'fileContainingSymbol', value: 'vmprovisioner.v1.VmService.BootVm' },
      { case: 'fileByFilename', value: 'vmprovisioner/v1/vm.proto' },
      { case: 'fileByFilename', value: '/etc/passwd' },
      { case: 'allExtensionNumbersOfType', value: 'x' },
    ] as const;
    const requests = questions.map((messageRequest) => create(ServerReflectionRequestSchema, { messageRequest }));
    const answers = [];
    for await (const { messageResponse } of client.serverReflectionInfo(createAsyncIterable(requests)))
      answers.push(messageResponse);
    const [services, ...files] = answers;
    assert.equal(services?.case, 'listServicesResponse');
    assert.deepEqual(
      services.value.service.map(({ name }) => name),
      ['vmprovisioner.v1.VmService', 'grpc.reflection.v1.ServerReflection'],
    );
    for (const file of files.slice(0, 3)) {
      assert.equal(file?.case, 'fileDescriptorResponse');
      const [bytes] = file.value.fileDescriptorProto;
      const registry = createFileRegistry(fromBinary(FileDescriptorProtoSchema, bytes!), () => undefined);
      assert.equal(registry.getService('vmprovisioner.v1.VmService')?.methods.length, 9);
    }
    for (const failure of files.slice(3)) assert.equal(failure?.case, 'errorResponse');
  });

  it('takes no question that is longer than any name', async () => {
    await using api = await openTestApi({ reflection: true });
    const client = createClient(ServerReflection, createGrpcTransport({ baseUrl: api.url }));
    const ask = async (length: number) => {
      const messageRequest = { case: 'fileContainingSymbol', value: 'x'.repeat(length) } as const;
      const requests = [create(ServerReflectionRequestSchema, { messageRequest })];
      const answers = [];
      for await (const { messageResponse } of client.serverReflectionInfo(createAsyncIterable(requests)))
        answers.push(messageResponse.case);
      return answers;
    };
    assert.deepEqual(await ask(4000), ['errorResponse']);
    await assert.rejects(ask(5000), { code: Code.ResourceExhausted });
  });

  it('is there under its earlier name', async () => {
    await using api = await openTestApi({ reflection: true });
    const transport = createGrpcTransport({ baseUrl: api.url });
    const { serverReflectionInfo } = ServerReflection.method;
    const earlier = { ...ServerReflection, typeName: 'grpc.reflection.v1alpha.ServerReflection' };
    const method = { ...serverReflectionInfo, parent: earlier } as DescMethodBiDiStreaming;
    const request = create(ServerReflectionRequestSchema, { messageRequest: { case: 'listServices', value: '' } });
    const reply = await transport.stream(method, undefined, undefined, undefined, createAsyncIterable([request]));
    const answers = [];
    for await (const message of reply.message) answers.push(message);
    assert.equal(answers.length, 1);
  });
});
