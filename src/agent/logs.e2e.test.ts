import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startTestAgent, type TestDevAgent } from './testing/dev-agent.ts';
import { Dockerd } from './testing/dockerd.ts';
import { unixFetch } from './testing/unix-fetch.ts';

const red = '\u001b[31mred\u001b[0m';

describe('logs of containers of a real Docker engine', () => {
  let dockerd: Dockerd;
  let agent: TestDevAgent;
  let id: string;
  before(async () => {
    dockerd = await Dockerd.start();
    agent = await startTestAgent({ dockerSocket: dockerd.socket });
    id = await dockerd.run('web', `printf 'one\\ntwo\\n'; printf '${red}\\n'; sleep 0.2; echo bad >&2`);
    await dockerd.run('timed', 'echo early; sleep 3; echo late');
    await dockerd.docker('wait', 'web');
  });
  after(async () => {
    await agent[Symbol.asyncDispose]();
    await dockerd[Symbol.asyncDispose]();
  });

  async function logs(query: string, container = 'web'): Promise<string> {
    const reply = await fetch(`${agent.httpUrl}/logs/${container}?${query}`);
    const text = await reply.text();
    assert.equal(reply.status, 200, text);
    return text;
  }

  test('as text', async () => {
    assert.equal(await logs('text&bare'), 'one\ntwo\nred\nbad\n');
    assert.equal(await logs('text&bare&ansi'), `one\ntwo\n${red}\nbad\n`);
  });

  test('as JSON, with the channel of each line', async () => {
    const lines = (await logs('text')).trim().split('\n');
    assert.deepEqual(
      lines.map((line) => JSON.parse(line) as unknown),
      [
        { channel: 'stdout', message: 'one\n' },
        { channel: 'stdout', message: 'two\n' },
        { channel: 'stdout', message: 'red\n' },
        { channel: 'stderr', message: 'bad\n' },
      ],
    );
    const [first] = (await logs('tail=4')).split('\n');
    assert.deepEqual(JSON.parse(first!), { channel: 'stdout', message: Buffer.from('one\n').toString('base64') });
  });

  test('the last lines', async () => {
    assert.equal(await logs('text&bare&tail=1'), 'bad\n');
    assert.equal(await logs('text&bare&tail=all'), 'one\ntwo\nred\nbad\n');
    assert.equal(await logs('text&bare&tail=0'), '');
  });

  test('with timestamps, and only those of a time', async () => {
    const stamped = (await logs('text&bare&timestamps')).trim().split('\n');
    for (const line of stamped) assert.match(line, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z \w+$/);
    assert.equal(await logs('text&bare&since=1h'), 'one\ntwo\nred\nbad\n');
    assert.equal(await logs('text&bare&since=3600'), 'one\ntwo\nred\nbad\n');
    assert.equal(await logs('text&bare&until=1h'), '');
    assert.equal(await logs(`text&bare&since=${Math.floor(Date.now() / 1000) + 3600}`), '');
  });

  test('from a moment on, and up to one', async () => {
    await dockerd.docker('wait', 'timed');
    const [, late] = (await logs('text&bare&timestamps', 'timed')).split('\n');
    const second = Math.floor(Date.parse(late!.split(' ')[0]!) / 1000);
    assert.equal(await logs(`text&bare&since=${second}`, 'timed'), 'late\n');
    assert.equal(await logs(`text&bare&until=${second}`, 'timed'), 'early\n');
    assert.equal(await logs(`text&bare&since=${second - 3600}&until=${second}`, 'timed'), 'early\n');
  });

  test('base64 without a wrapper', async () => {
    const chunks = await logs('bare&tail=1');
    assert.equal(chunks, Buffer.from('bad\n').toString('base64'));
  });

  test('a flag that is false is as one that is not there', async () => {
    const off = ['follow', 'bare', 'timestamps', 'ansi'].map((flag) => `${flag}=false`).join('&');
    assert.equal(await logs(`text=true&${off}`), await logs('text'));
  });

  test('by the id of the container, and by its beginning', async () => {
    assert.equal(await logs('text&bare&tail=1', id), 'bad\n');
    assert.equal(await logs('text&bare&tail=1', id.slice(0, 12)), 'bad\n');
  });

  test('while they are written, until the container ends', async () => {
    await dockerd.run('slow', 'echo first; while [ ! -e /go ]; do sleep 0.05; done; echo last');
    const reply = await fetch(`${agent.httpUrl}/logs/slow?text&bare&follow`);
    const reader = reply.body!.pipeThrough(new TextDecoderStream()).getReader();
    assert.equal((await reader.read()).value, 'first\n');
    await dockerd.docker('exec', 'slow', 'sh', '-c', '>/go');
    let rest = '';
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) rest += piece.value;
    assert.equal(rest, 'last\n');
  });

  test('readers that go away leave nothing running', async () => {
    await dockerd.run('endless', 'while :; do echo tick; sleep 0.05; done');
    // More, one after another, than may be read at a time.
    for (let n = 0; n < 40; n++) {
      const stop = new AbortController();
      const reply = await fetch(`${agent.httpUrl}/logs/endless?text&bare&follow`, { signal: stop.signal });
      assert.equal(reply.status, 200);
      stop.abort();
    }
    await dockerd.docker('rm', '--force', 'endless');
  });

  test('of a container with a terminal', async () => {
    await dockerd.run('terminal', `printf '${red}\\n'`, '--tty');
    await dockerd.docker('wait', 'terminal');
    assert.deepEqual(JSON.parse(await logs('text', 'terminal')), { channel: 'console', message: 'red\r\n' });
  });

  test('of a container that does not exist', async () => {
    const reply = await fetch(`${agent.httpUrl}/logs/nobody`);
    assert.equal(reply.status, 404);
    assert.equal(((await reply.json()) as { error: string }).error, 'Container not found');
  });

  test('the host and the dashboard see the containers', async () => {
    const { containers } = (await unixFetch(agent.guestSocket, '/api/ListContainers', {})).json() as {
      containers: { id: string; names: string[]; state: string; created: number }[];
    };
    const web = containers.find((each) => each.id === id)!;
    assert.deepEqual([web.names, web.state], [['/web'], 'exited']);
    assert.ok(Math.abs(web.created - Date.now() / 1000) < 3600);
    const page = await (await fetch(agent.httpUrl)).text();
    assert.match(page, /<td>web<\/td><td>Exited \(0\)/);
    assert.match(page, /href="\/logs\/web\?text&#38;bare/);
  });
});
