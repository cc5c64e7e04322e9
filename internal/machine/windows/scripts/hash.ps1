# isthmus:hash v1
begin{
$ErrorActionPreference='Stop';$ProgressPreference='SilentlyContinue'
$w=[Console]::OpenStandardOutput()
}
process{
$l=([string]$_).Trim()
if($l){
$r=@{path='';exists=$false}
try{
$p=[string](ConvertFrom-Json $l).path;$r.path=$p
if([IO.File]::Exists($p)){
$f=New-Object IO.FileStream($p,'Open','Read','ReadWrite, Delete')
try{
$r.sha256=[BitConverter]::ToString([Security.Cryptography.SHA256]::Create().ComputeHash($f)).Replace('-','').ToLower()
$r.size=$f.Length;$r.exists=$true
}finally{$f.Dispose()}
}
}catch{
$x=$_.Exception;while($x.InnerException){$x=$x.InnerException}
$r.error=$x.Message;if($x -is [UnauthorizedAccessException]){$r.code='AccessDenied'}
}
$b=[Text.Encoding]::UTF8.GetBytes((ConvertTo-Json $r -Compress)+"`n");$w.Write($b,0,$b.Length)
}
}
end{$w.Flush();exit 0}
