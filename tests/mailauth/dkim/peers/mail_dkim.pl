# Mail::DKIM in a process of its own: asked by lines of JSON, answers so.
# perl mail_dkim.pl RECORDS: a file of JSON, name to key record. Octets are latin-1 text.
use strict;
use warnings;
use JSON::PP;
use Mail::DKIM::Verifier;
use Mail::DKIM::Signer;
use Mail::DKIM::PrivateKey;
use Mail::DKIM::ARC::Verifier;

my $json = JSON::PP->new->latin1->canonical;
my $records = do { local $/; open my $file, '<', $ARGV[0] or die $!; $json->decode(<$file>) };

package Answer { sub new { bless { text => $_[1] }, $_[0] } sub type { 'TXT' } sub txtdata { $_[0]{text} } }
{
    no warnings 'redefine';
    *Mail::DKIM::DNS::query = sub {
        my $text = $records->{ lc $_[0] };
        $@ = defined $text ? 'NOERROR' : 'NXDOMAIN';
        return defined $text ? Answer->new($text) : ();
    };
}

sub feed { my ( $object, $message ) = @_; $object->PRINT($message); $object->CLOSE; $object }

my %ways = (
    verify => sub {
        my $verifier = feed( Mail::DKIM::Verifier->new( Strict => 1 ), $_[0]{message} );
        return [ map { [ $_->result, $_->result_detail ] } $verifier->signatures ];
    },
    sign => sub {
        my ($order) = @_;
        my $signer = Mail::DKIM::Signer->new(
            Algorithm => $order->{algorithm},
            Method    => "$order->{header}/$order->{body}",
            Domain    => 'example.org',
            Selector  => 'r',
            Timestamp => $order->{now},
            Key       => Mail::DKIM::PrivateKey->load( Data => $order->{private} ),
        );
        my $field = feed( $signer, $order->{message} )->signature->as_string . "\n";
        $field =~ s/\r?\n/\r\n/g;
        return $field;
    },
    arc => sub {
        my $verifier = feed( Mail::DKIM::ARC::Verifier->new( Strict => 1 ), $_[0]{message} );
        return [ $verifier->result, $verifier->result_detail ];
    },
);

$| = 1;
while ( my $line = <STDIN> ) {
    my $order = $json->decode($line);
    my $answer = eval { $ways{ $order->{do} }->($order) };
    $answer = [ [ 'error', "$@" ] ] if $@;
    print JSON::PP->new->ascii->allow_nonref->encode($answer), "\n";
}
