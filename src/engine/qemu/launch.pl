#!/usr/bin/perl
# Starts one VM process and keeps its logs bounded.
#
#   [--cgroup FILE]... [--socket NAME=PATH]... [--tap NAME=IFNAME]... [--file FD=PATH]... --log NAME=BYTES=PATH...
#   --uid UID|- -- COMMAND ARGUMENT...
#
# These words come on standard input, each ended by a NUL and all by a line break, when there is a VM to start. Until then
# the process waits; it ends when there will be none. It becomes COMMAND (same pid, so the parent sees COMMAND's own exit status) after it has, with the parent's
# privileges: entered the cgroups; bound the listening sockets and opened the tap devices; and forked a log writer. Each
# `@NAME@` in COMMAND's arguments becomes the number of the inherited descriptor, so COMMAND needs no right to the
# directory, to /dev/net/tun or to its log files. A file is opened for reading, as descriptor FD, and is COMMAND's alone.
# Standard output and error go to the log called `engine`.
#
# The log writer drops to UID, copies each log's pipe to PATH, and moves what is older to PATH.1: the two together never
# hold more than twice BYTES. It needs nobody else, so logs go on while the daemon is away, and it ends with COMMAND.
# Perl because it is part of every Debian system and costs a VM 2 MB; a Node process would cost 45.
use strict;
use warnings;
use Fcntl qw(:DEFAULT :seek F_SETFD);
use POSIX  ();
use Socket qw(PF_UNIX PF_INET SOCK_STREAM SOCK_DGRAM SOMAXCONN pack_sockaddr_un);

use constant {
    SIOCGIFINDEX => 0x8933,
    TUNSETIFF    => 0x400454ca,
    TAP_FLAGS    => 0x0002 | 0x1000 | 0x4000,    # IFF_TAP | IFF_NO_PI | IFF_VNET_HDR
    CHUNK        => 65_536,
    # The console arrives a byte at a time; reading in batches keeps the writer's cost down.
    BATCH_SECONDS => 0.02,
};

my $words = do { local $/ = undef; <STDIN> } // '';
exit 0 unless $words =~ s/\0\n\z//;
@ARGV = split /\0/, $words, -1;
open STDIN, '<', '/dev/null' or die "launch: /dev/null: $!\n";

my ( $uid, @cgroups, @sockets, @taps, @files, @logs );
while (@ARGV) {
    my $option = shift;
    last if $option eq '--';
    my $value = shift;
    if    ( $option eq '--uid' )    { $uid = $value eq '-' ? undef : $value }
    elsif ( $option eq '--cgroup' ) { push @cgroups, $value }
    elsif ( $option eq '--socket' ) { push @sockets, [ split /=/, $value, 2 ] }
    elsif ( $option eq '--tap' )    { push @taps,    [ split /=/, $value, 2 ] }
    elsif ( $option eq '--file' )   { push @files,   [ split /=/, $value, 2 ] }
    elsif ( $option eq '--log' )    { push @logs,    [ split /=/, $value, 3 ] }
    else                            { die "launch: unknown option $option\n" }
}
die "launch: no command\n" unless @ARGV;

umask 0077;
for ( grep { $_->[0] eq 'engine' } @logs ) {
    # Whatever goes wrong before the log writer is there.
    sysopen my $log, $_->[2], O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW, 0600 or exit 1;
    open STDERR, '>&', $log or exit 1;
}

for my $file (@cgroups) {
    sysopen my $procs, $file, O_WRONLY or die "launch: $file: $!\n";
    defined syswrite $procs, $$ or die "launch: $file: $!\n";
}

for (@files) {
    my ( $number, $path ) = @$_;
    sysopen my $file, $path, O_RDONLY or die "launch: $path: $!\n";
    defined POSIX::dup2( fileno $file, $number ) or die "launch: $path: $!\n";
}

my ( %descriptor, @inherited );

sub inherit {
    my ( $name, $handle ) = @_;
    fcntl $handle, F_SETFD, 0 or die "launch: $name: $!\n";
    $descriptor{$name} = fileno $handle;
    push @inherited, $handle;
    return;
}

for (@sockets) {
    my ( $name, $path ) = @$_;
    socket my $listener, PF_UNIX, SOCK_STREAM, 0 or die "launch: socket: $!\n";
    bind $listener, pack_sockaddr_un($path) or die "launch: $path: $!\n";
    listen $listener, SOMAXCONN or die "launch: $path: $!\n";
    inherit( $name, $listener );
}

for (@taps) {
    my ( $name, $interface ) = @$_;
    # TUNSETIFF would make an interface that does not exist: a tap without the rules that belong to it.
    socket my $query, PF_INET, SOCK_DGRAM, 0 or die "launch: socket: $!\n";
    my $request = pack 'Z16 x24', $interface;
    ioctl $query, SIOCGIFINDEX, $request or die "launch: $interface: $!\n";
    sysopen my $tap, '/dev/net/tun', O_RDWR | O_NONBLOCK or die "launch: /dev/net/tun: $!\n";
    $request = pack 'Z16 S x22', $interface, TAP_FLAGS;
    ioctl $tap, TUNSETIFF, $request or die "launch: $interface: $!\n";
    inherit( $name, $tap );
}

my ( @pumps, $engine );
for (@logs) {
    my ( $name, $limit, $path ) = @$_;
    my $mode = O_RDWR | O_CREAT | O_NOFOLLOW;
    sysopen my $current, $path, $mode | O_APPEND, 0600 or die "launch: $path: $!\n";
    sysopen my $older, "$path.1", $mode, 0600 or die "launch: $path.1: $!\n";
    pipe my $reader, my $writer or die "launch: pipe: $!\n";
    push @pumps, { reader => $reader, current => $current, older => $older, limit => $limit, size => -s $current };
    inherit( $name, $writer );
    $engine = $writer if $name eq 'engine';
}

my $writer_pid = fork // die "launch: fork: $!\n";
if ( $writer_pid == 0 ) {
    $0 = "berth-log $logs[0][2]";
    write_logs();
    exit 0;
}

if ($engine) {
    open STDOUT, '>&', $engine or die "launch: stdout: $!\n";
    open STDERR, '>&', $engine or die "launch: stderr: $!\n";
}
s/\@([a-z0-9]+)\@/$descriptor{$1} \/\/ "\@$1\@"/ge for @ARGV;
exec { $ARGV[0] } @ARGV or die "launch: $ARGV[0]: $!\n";

sub write_logs {
    # What the VM's process does to its session must not stop its logs; they end when the pipes do.
    $SIG{$_} = 'IGNORE' for qw(HUP INT TERM PIPE);
    close $_ for @inherited;
    @inherited = ();
    POSIX::close( $_->[0] ) for @files;
    undef $engine;
    open STDIN,  '<', '/dev/null';
    open STDOUT, '>', '/dev/null';
    open STDERR, '>', '/dev/null';
    if ( defined $uid ) {
        # Perl's own $< and $> would leave root as the saved uid.
        $) = "$uid $uid";
        exit 1 unless POSIX::setgid($uid) && POSIX::setuid($uid);
    }
    while (@pumps) {
        my $ready = '';
        vec( $ready, fileno $_->{reader}, 1 ) = 1 for @pumps;
        next if select( $ready, undef, undef, undef ) < 0;
        select undef, undef, undef, BATCH_SECONDS;
        @pumps = grep { !vec( $ready, fileno $_->{reader}, 1 ) || pump($_) } @pumps;
    }
    return;
}

# Copies what is there; false at the end of the pipe.
sub pump {
    my ($log) = @_;
    my $count = sysread $log->{reader}, my $data, $log->{limit} < CHUNK ? $log->{limit} : CHUNK;
    return $!{EINTR} if !defined $count;
    return 0         if $count == 0;
    rotate($log)     if $log->{size} + $count > $log->{limit};
    # On a full disk the text is lost and the VM goes on.
    $log->{size} += syswrite( $log->{current}, $data ) // 0;
    return 1;
}

# Copies instead of renaming: the writer has no right to the directory.
sub rotate {
    my ($log) = @_;
    truncate $log->{older}, 0;
    sysseek $log->{older},   0, SEEK_SET;
    sysseek $log->{current}, 0, SEEK_SET;
    while ( sysread $log->{current}, my $data, CHUNK ) {
        last unless defined syswrite $log->{older}, $data;
    }
    truncate $log->{current}, 0;
    $log->{size} = 0;
    return;
}
