/** The nine calls, on messages: no protocol, no encoding. */

import { create } from '@bufbuild/protobuf';
import { Code } from '@connectrpc/connect';
import { BerthError } from '../../common/errors.ts';
import type { ImageStore } from '../../image/images.ts';
import type { VmService } from '../../vm/api.ts';
import type { Vm } from '../../vm/model.ts';
import type { Caller } from './auth.ts';
import { encodeVmDetails, encodeVmInfo, sizeOf } from './codec.ts';
import { decodeCreateVm, inWordsOfClients } from './create-vm.ts';
import { refusal } from './errors.ts';
import * as pb from './gen/vmprovisioner/v1/vm_pb.js';
import { page } from './pages.ts';
import type { NetworkFacts } from './ports.ts';
import { wireState } from './states.ts';
import type { UnsupportedPolicy } from './unsupported.ts';
import type { UsageSamples } from './usage.ts';

export interface MetaldSettings {
  /** CIDRs that VMs may start connections to; empty: none. */
  readonly allowIps: readonly string[];
  /** As the original's load tests expect it: `ResumeVm` starts a VM that is shut down, `DeleteVm` needs no force. */
  readonly loadScriptRules: boolean;
  /** Answers for VMs of others as if there were none. */
  readonly hideForeignVms: boolean;
  /** What becomes of a configuration that asks for what no VM here is given. */
  readonly unsupported: UnsupportedPolicy;
}

export interface ServiceOptions {
  readonly vms: VmService;
  readonly images: Pick<ImageStore, 'find'>;
  readonly usage: UsageSamples;
  readonly network: NetworkFacts;
  readonly settings: MetaldSettings;
}

/** A VM is nobody else's while its guest is given time. */
const longestTimeoutSeconds = 600;

/** What an id may be; whatever else is asked for cannot be there, and is not repeated. */
const idPattern = /^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/;

export class MetaldService {
  readonly #vms: VmService;
  readonly #images: Pick<ImageStore, 'find'>;
  readonly #usage: UsageSamples;
  readonly #network: NetworkFacts;
  readonly #settings: MetaldSettings;

  constructor({ vms, images, usage, network, settings }: ServiceOptions) {
    this.#vms = vms;
    this.#images = images;
    this.#usage = usage;
    this.#network = network;
    this.#settings = settings;
  }

  async createVm(request: pb.CreateVmRequest, caller: Caller): Promise<pb.CreateVmResponse> {
    if (!request.config) throw invalid('vm config is required');
    if (request.customerId !== '' && request.customerId !== caller.customer)
      throw refusal(Code.PermissionDenied, 'CUSTOMER_MISMATCH', 'customer_id mismatch', {
        customer_id: caller.customer,
      });
    const { allowIps, unsupported } = this.#settings;
    const options = { allowIps, unsupported, images: this.#images };
    const wanted = decodeCreateVm(request, caller.customer, options);
    const vm = await this.#vms.create(wanted).catch((error: unknown) => {
      throw inWordsOfClients(error);
    });
    return create(pb.CreateVmResponseSchema, { vmId: vm.id, state: wireState(vm) });
  }

  async deleteVm(request: pb.DeleteVmRequest, caller: Caller): Promise<pb.DeleteVmResponse> {
    const vm = this.#own(request.vmId, caller);
    // One that is being shut down runs until it is down: without force its guest has the time it was given.
    const isUp = ['starting', 'running', 'paused', 'stopping'].includes(vm.state);
    if (isUp && !request.force && !this.#settings.loadScriptRules)
      throw wrongState(vm, 'shut down first, or deleted with force');
    await this.#vms.remove(vm.id);
    return create(pb.DeleteVmResponseSchema, { success: true });
  }

  async bootVm(request: pb.BootVmRequest, caller: Caller): Promise<pb.BootVmResponse> {
    const vm = this.#expect(request.vmId, caller, ['created', 'stopped'], 'CREATED or SHUTDOWN to boot');
    const booted = await this.#vms.start(vm.id);
    return create(pb.BootVmResponseSchema, { success: true, state: wireState(booted) });
  }

  async shutdownVm(request: pb.ShutdownVmRequest, caller: Caller): Promise<pb.ShutdownVmResponse> {
    const { force, timeoutSeconds } = request;
    if (timeoutSeconds < 0 || timeoutSeconds > longestTimeoutSeconds)
      throw invalid(`timeout_seconds must be from 0 to ${longestTimeoutSeconds}`);
    // A paused guest cannot do what shutting down asks of it.
    const vm = force
      ? this.#expect(
          request.vmId,
          caller,
          ['running', 'paused', 'stopping'],
          'RUNNING or PAUSED to be shut down with force',
        )
      : this.#expect(request.vmId, caller, ['running'], 'RUNNING to shut down');
    // Berth's own init is asked first, where there is one, and then the power button is pressed: each has its part of the time.
    const graceMs = (timeoutSeconds * 1000) / (vm.guestChannel === 'required' ? 2 : 1);
    const stopped = await this.#vms.stop(vm.id, { force, ...(graceMs === 0 ? {} : { graceMs }) });
    return create(pb.ShutdownVmResponseSchema, { success: true, state: wireState(stopped) });
  }

  async pauseVm(request: pb.PauseVmRequest, caller: Caller): Promise<pb.PauseVmResponse> {
    const vm = this.#expect(request.vmId, caller, ['running'], 'RUNNING to pause');
    const paused = await this.#vms.pause(vm.id);
    return create(pb.PauseVmResponseSchema, { success: true, state: wireState(paused) });
  }

  async resumeVm(request: pb.ResumeVmRequest, caller: Caller): Promise<pb.ResumeVmResponse> {
    const restarts = this.#settings.loadScriptRules && this.#own(request.vmId, caller).state === 'stopped';
    const vm = restarts
      ? this.#own(request.vmId, caller)
      : this.#expect(request.vmId, caller, ['paused'], 'PAUSED to resume');
    const resumed = restarts ? await this.#vms.start(vm.id) : await this.#vms.resume(vm.id);
    return create(pb.ResumeVmResponseSchema, { success: true, state: wireState(resumed) });
  }

  async rebootVm(request: pb.RebootVmRequest, caller: Caller): Promise<pb.RebootVmResponse> {
    const vm = this.#expect(request.vmId, caller, ['running'], 'RUNNING to reboot');
    const rebooted = await this.#vms.reboot(vm.id, { force: request.force });
    return create(pb.RebootVmResponseSchema, { success: true, state: wireState(rebooted) });
  }

  getVmInfo(request: pb.GetVmInfoRequest, caller: Caller): pb.GetVmInfoResponse | Promise<pb.GetVmInfoResponse> {
    const vm = this.#own(request.vmId, caller);
    const sample = this.#usage.of(vm);
    if (sample === null) return encodeVmDetails(vm, null, '', this.#network);
    return sample.then((known) => encodeVmDetails(vm, known, this.#vms.controlSocket(vm.id), this.#network));
  }

  listVms(request: pb.ListVmsRequest, caller: Caller): pb.ListVmsResponse {
    const states = new Set(request.stateFilter);
    for (const state of states)
      if (pb.VmState[state] === undefined) throw invalid(`state_filter: ${state} is no state`);
    const wanted = states.size === 0 ? null : (vm: Vm) => states.has(wireState(vm));
    const { vms, next, total } = page(this.#vms.listOf(caller.customer), wanted, request, sizeOf);
    return create(pb.ListVmsResponseSchema, { vms: vms.map(encodeVmInfo), nextPageToken: next, totalCount: total });
  }

  /** The caller's VM of that id. */
  #own(id: string, caller: Caller): Vm {
    if (id === '') throw invalid('vm_id is required');
    if (!idPattern.test(id)) throw refusal(Code.NotFound, 'VM_NOT_FOUND', 'VM not found');
    try {
      return this.#vms.getOf(id, caller.customer);
    } catch (error) {
      if (!(error instanceof BerthError) || error.code !== 'vm_not_owned') throw error;
      if (this.#settings.hideForeignVms) throw new BerthError('vm_not_found', { id });
      throw refusal(Code.PermissionDenied, 'VM_NOT_OWNED', `VM ${id} not found or not owned by customer`, {
        vm_id: id,
        customer_id: caller.customer,
      });
    }
  }

  #expect(id: string, caller: Caller, states: readonly Vm['state'][], expected: string): Vm {
    const vm = this.#own(id, caller);
    if (!states.includes(vm.state)) throw wrongState(vm, expected);
    return vm;
  }
}

function wrongState(vm: Vm, expected: string): BerthError {
  return new BerthError('wrong_state', { expected, actual: vm.state.toUpperCase(), state: vm.state });
}

function invalid(reason: string): BerthError {
  return new BerthError('invalid_argument', { reason });
}
