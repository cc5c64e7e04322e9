# isthmus:ends v1
begin{
$ErrorActionPreference='Stop';$ProgressPreference='SilentlyContinue'
}
process{
$l=([string]$_).Trim()
if($l){
$r=@{ok=$false}
try{
$h=ConvertFrom-Json $l
$f=New-Object IO.FileStream([string]$h.path,'Open','Read','ReadWrite, Delete')
try{
$n=[int][Math]::Min($f.Length,[long]$h.each);$b=New-Object byte[] $n
$a=$f.Read($b,0,$n);$r.head=[Convert]::ToBase64String($b,0,$a)
[void]$f.Seek(-$n,'End')
$a=$f.Read($b,0,$n);$r.tail=[Convert]::ToBase64String($b,0,$a)
$r.ok=$true
}finally{$f.Dispose()}
}catch{
$x=$_.Exception;while($x.InnerException){$x=$x.InnerException}
$r.error=$x.Message
}
$b=[Text.Encoding]::UTF8.GetBytes((ConvertTo-Json $r -Compress)+"`n");$s=[Console]::OpenStandardOutput();$s.Write($b,0,$b.Length);$s.Flush()
}
}
end{exit 0}
