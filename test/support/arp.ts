import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

/** Prints `MAC IP` for each ARP packet by which its sender tells of its own address; first of all a line `ready`. */
const listener = `
use strict; use warnings; use Socket qw(SOCK_RAW);
$| = 1;
socket my $socket, 17, SOCK_RAW, unpack('S', pack('n', 3)) or die $!;   # PF_PACKET, all that any device takes or sends
print "ready\\n";
while (defined recv $socket, my $packet, 64, 0) {
  my ($type, $mac, $sender, $target) = unpack 'x12 n x8 H12 a4 x6 a4', $packet;
  next if $type != 0x0806;
  print join(':', $mac =~ /../g), ' ', join('.', unpack 'C4', $sender), "\\n" if $sender eq $target;
}`;

export interface ArpListener extends Disposable {
  /** `MAC IP` of each announcement so far. */
  readonly announced: ReadonlySet<string>;
}

/** Listens on every device of this network namespace; nothing that is sent after the promise resolved is missed. */
export async function listenForAnnouncements(): Promise<ArpListener> {
  const child = spawn('perl', ['-e', listener], { stdio: ['ignore', 'pipe', 'inherit'] });
  const lines = createInterface({ input: child.stdout });
  const [first] = await Promise.race([once(lines, 'line'), once(lines, 'close')]);
  if (first !== 'ready') throw new Error('nothing can be heard');
  const announced = new Set<string>();
  lines.on('line', (line) => announced.add(line));
  return { announced, [Symbol.dispose]: () => child.kill() };
}
