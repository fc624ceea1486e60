#!/usr/bin/perl
# Tells of the next packet that the host hands to a tap.
#
# Reads lines from standard input, and ends with it:
#   + TAP    watch; answered `+ TAP` once no packet can be missed, `? TAP` when that is not possible
#   - TAP    watch no more
# Writes `! TAP` at the first packet, and then watches that tap no more.
#
# A socket bound to a tap sees its packets alone, so what other taps carry costs nothing, and waiting costs nothing either.
# Packets are looked at, not taken: they stay in the tap's queue. Perl because it is part of every Debian system.
use strict;
use warnings;
use Socket qw(PF_INET SOCK_DGRAM SOCK_RAW);

use constant {
    PF_PACKET       => 17,
    ETH_P_ALL       => 0x0003,
    PACKET_OUTGOING => 4,
    SIOCGIFINDEX    => 0x8933,
    LONGEST_LINE    => 4096,
};

$0 = 'berth-tap-watch';
$| = 1;

my %watched;    # tap => socket

sub watch {
    my ($tap) = @_;
    socket my $query, PF_INET, SOCK_DGRAM, 0 or return 0;
    my $request = pack 'Z16 x24', $tap;
    ioctl $query, SIOCGIFINDEX, $request or return 0;
    my $index = unpack 'x16 i', $request;
    # With protocol 0 it hears nothing before it is bound, least of all every packet of the host.
    socket my $socket, PF_PACKET, SOCK_RAW, 0 or return 0;
    bind $socket, pack( 'S n i S C C x8', PF_PACKET, ETH_P_ALL, $index, 0, 0, 0 ) or return 0;
    $watched{$tap} = $socket;
    return 1;
}

# True when there is a packet on its way to the tap, rather than one that the VM sent before it was stopped.
sub has_packet_for {
    my ($socket) = @_;
    my $from = recv $socket, my $packet, 64, 0;
    return 0 if !defined $from;
    my ($type) = unpack 'x10 C', $from;
    return $type == PACKET_OUTGOING;
}

sub obey {
    my ($line) = @_;
    my ( $what, $tap ) = $line =~ /\A([+-]) (\S{1,15})\z/ or die "tap-watch: cannot make sense of a line\n";
    delete $watched{$tap};
    print watch($tap) ? "+ $tap\n" : "? $tap\n" if $what eq '+';
    return;
}

my $input = '';
while (1) {
    my $ready = '';
    vec( $ready, 0, 1 ) = 1;
    vec( $ready, fileno $_, 1 ) = 1 for values %watched;
    next if select( $ready, undef, undef, undef ) < 0;
    for my $tap ( keys %watched ) {
        next unless vec $ready, fileno $watched{$tap}, 1;
        next unless has_packet_for( $watched{$tap} );
        delete $watched{$tap};
        print "! $tap\n";
    }
    next unless vec $ready, 0, 1;
    my $count = sysread STDIN, $input, LONGEST_LINE, length $input;
    next if !defined $count;
    last if $count == 0;
    obey($1) while $input =~ s/\A([^\n]*)\n//;
    die "tap-watch: a line is too long\n" if length $input > LONGEST_LINE;
}
