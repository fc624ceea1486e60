import type { MessageOf, MessageType } from './message.ts';

/** One method of a service: a request message in, a reply message out. */
export interface Rpc<I extends MessageType = MessageType, O extends MessageType = MessageType> {
  readonly input: I;
  readonly output: O;
}

export function rpc<I extends MessageType, O extends MessageType>(input: I, output: O): Rpc<I, O> {
  return { input, output };
}

/** Methods by name, without package and service. */
export type Service = Readonly<Record<string, Rpc>>;

/** What answers the methods of a service. `C` is what the listener knows of a request beside its message. */
export type Handlers<S extends Service, C = undefined> = {
  readonly [M in keyof S]: (
    request: MessageOf<S[M]['input']>,
    context: C,
  ) => MessageOf<S[M]['output']> | Promise<MessageOf<S[M]['output']>>;
};
