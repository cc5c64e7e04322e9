# isthmus:deliver v2
begin{
$ErrorActionPreference='Stop';$ProgressPreference='SilentlyContinue'
$h=$null;$t=$null;$f=$null;$e=$null;$c='';$a=$false
function Say($o){$b=[Text.Encoding]::UTF8.GetBytes((ConvertTo-Json $o -Compress)+"`n");$s=[Console]::OpenStandardOutput();$s.Write($b,0,$b.Length);$s.Flush()}
function Fail($r){$x=$r.Exception;while($x.InnerException){$x=$x.InnerException}
$script:e=$x.Message;$n=$x.HResult -band 0xFFFF
if($script:c){}elseif($x -is [UnauthorizedAccessException]){$script:c='AccessDenied'}elseif($n -eq 32 -or $n -eq 33){$script:c='InUse'}elseif($n -eq 112 -or $n -eq 39){$script:c='DiskFull'}elseif($n -eq 2 -or $n -eq 3 -or $n -eq 15){$script:c='NotFound'}}
}
process{
if(!$e){try{
$l=([string]$_).Trim()
if($l -and !$h){
$h=ConvertFrom-Json $l;$p=[string]$h.path;$d=[IO.Path]::GetDirectoryName($p)
for($q=$d;$q;$q=[IO.Path]::GetDirectoryName($q)){if([IO.Path]::GetDirectoryName($q) -and [IO.Directory]::Exists($q) -and ([IO.File]::GetAttributes($q) -band 1024)){$c='Link';throw "$q is a link"}}
if($h.from){$i=[IO.File]::OpenRead([string]$h.from)}
[void][IO.Directory]::CreateDirectory($d)
$t=[IO.Path]::Combine($d,'.isthmus-'+[guid]::NewGuid().ToString('N')+'.tmp')
$f=New-Object IO.FileStream($t,'CreateNew','ReadWrite','None')
if($h.from){try{$i.CopyTo($f)}finally{$i.Dispose()}}
}elseif($l){$b=[Convert]::FromBase64String($l);$f.Write($b,0,$b.Length)}
}catch{Fail $_}}
}
end{
if(!$e){try{
if(!$f){throw 'no header'}
$f.Flush($true);$f.Position=0;$n=$f.Length
$s=[BitConverter]::ToString([Security.Cryptography.SHA256]::Create().ComputeHash($f)).Replace('-','').ToLower()
$f.Dispose()
if($s -ne $h.sha256 -or ($h.size -ge 0 -and $n -ne $h.size)){$c='HashMismatch';throw "got $n bytes with SHA-256 $s"}
if([IO.Directory]::Exists($p)){throw 'the path is a directory'}
foreach($o in [IO.Directory]::GetFiles($d,[IO.Path]::GetFileName($p)+'.old-????????')){try{[IO.File]::Delete($o)}catch{}}
if(![IO.File]::Exists($p)){[IO.File]::Move($t,$p)}
elseif([IO.File]::GetAttributes($p) -band 1024){[IO.File]::Delete($p);[IO.File]::Move($t,$p)}
else{try{[IO.File]::Replace($t,$p,[NullString]::Value)}catch{
$o=$p+'.old-'+[guid]::NewGuid().ToString('N').Substring(0,8)
try{Set-Acl -LiteralPath $t -AclObject (Get-Acl -LiteralPath $p)}catch{}
[IO.File]::Move($p,$o)
try{[IO.File]::Move($t,$p)}catch{[IO.File]::Move($o,$p);throw}
try{[IO.File]::Delete($o)}catch{$a=$true}}}
if($h.from){try{[IO.File]::Delete([string]$h.from)}catch{}}
}catch{Fail $_}}
if($f){$f.Dispose()}
if($e){if($t){try{[IO.File]::Delete($t)}catch{}};Say @{ok=$false;error=$e;code=$c};exit 1}
Say @{ok=$true;sha256=$s;size=$n;aside=$a};exit 0
}
